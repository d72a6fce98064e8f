"""Published configs, one file an experiment family; `--config=NAME:argument` finds them from any folder."""
