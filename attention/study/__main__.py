"""`python -m attention.study`: see `attention.study.work`."""

from attention.study.work import main

if __name__ == "__main__":
    main()
