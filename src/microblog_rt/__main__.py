"""``python -m microblog_rt``: the same as the command ``microblog-rt``."""

from microblog_rt.cli import main

if __name__ == "__main__":
    main(prog_name="microblog-rt")
