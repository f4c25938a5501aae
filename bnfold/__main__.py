"""``python -m bnfold``, and what the installed command calls."""

from bnfold import interruption


def main() -> None:
    """Runs the command line, which takes half a second to import."""
    interruption.install()
    from bnfold.cli import main as run

    run()


if __name__ == "__main__":
    main()
