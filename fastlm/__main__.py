"""python -m fastlm VERB ...: what the program `fastlm` does."""

from fastlm.cli.commands import main

if __name__ == "__main__":
    main()
