"""`python -m fastlm VERB ...` does the same as the program `fastlm`."""

from fastlm.cli.commands import main

if __name__ == "__main__":
    main()
