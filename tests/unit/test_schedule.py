from fst_plugin.schedule import Schedule


def test_a_fast_phase_runs_before_the_first_of_every_t_steps():
    start, begins = None, []
    for step in range(1, 14):
        if Schedule(6).due(step, start):
            start = step
            begins.append(step)
    assert begins == [1, 7, 13]
