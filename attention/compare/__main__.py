"""Which block for these pictures? Train a plain network and a few blocks, and write one page.

    python -m attention.compare flowers --blocks se,eca,cbam --minutes 60

FOLDER, or a zip or tar of one, holds <class>/*, or train/<class>/*, val/… and test/…: as
attention.load takes it. What will be trained and how long that takes is
said first. Stopped at any moment, the same command goes on, and repeats nothing that is finished.
"""

import argparse
import sys

from attention.compare.study import compare


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m attention.compare", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", metavar="FOLDER", help="pictures, or a zip or tar of them")
    parser.add_argument("--blocks", default="se,eca,cbam", help="names; default: %(default)s")
    parser.add_argument("--network", help="resnet20 up to 64 pixels, above it resnet18")
    parser.add_argument("--minutes", type=float, default=60, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, help="at most so many rounds; the profile's")
    parser.add_argument("--size", type=int, help="pixels that the pictures are resized to")
    parser.add_argument("--epochs", type=int, help="by the number of pictures")
    parser.add_argument("--broken", default="refuse", help="skip: leave out what cannot be read")
    parser.add_argument("--out", help="the page; compare-<folder>.html")
    chosen = vars(parser.parse_args(arguments))
    blocks = [name.strip() for name in chosen.pop("blocks").split(",")]
    try:
        compare(blocks=blocks, **chosen)
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("\nstopped: the same command goes on from the last finished epoch", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
