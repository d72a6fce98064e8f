"""Published configs, one file per family of runs; `--config=NAME:argument` finds them from any folder."""
