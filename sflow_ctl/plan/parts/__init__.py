"""Parts of a plan that `plan/model.py` puts together."""
