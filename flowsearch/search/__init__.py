"""The search: the only room that knows Ray and Optuna.

`space` says what may be drawn, `asktell` draws it, `recorder` writes down what happens before it counts, `trainable`
runs a trial in a Ray actor, `searcher` and `scheduler` connect the two, `resume` replays a journal, `study` puts it
together.
"""
