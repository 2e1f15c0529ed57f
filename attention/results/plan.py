"""What the comparison will ask, and how it will answer: written before its first run.

RESULTS.md shows `TEXT`; `answer` tests by the same constants. `AGAIN` was written when the answer
was there, and before the first run that it asks for; `fresh` tests by it.
"""

from attention.networks import REDUCTION

PAPERS = ("se", "eca", "cbam", "bam")
# Plain networks that buy with channels (17 for 16) or with depth what a block costs.
CONTROLS = ({"width": 17}, {"network": "resnet26"})
FASTER = ("se", "eca", "bam")  # than the second of them, as was thought before any was trained
SEEDS = 5
CONFIDENCE = 0.95
MARGIN = 0.5  # points of accuracy
BLOCKS = (*PAPERS, "hybrid")  # what is tested, all of it counted before it is trained
FAMILY = len(BLOCKS)
# The block whose mean was the highest after these seeds, and the seeds on which it is asked again.
MOST_ACCURATE = "se"
FRESH_SEEDS = range(SEEDS, SEEDS + 8)

TEXT = f"""\
**The plan, committed before the first of these networks was tested.**

*Question.* Does SE, ECA, CBAM, BAM or the hybrid change the test accuracy of the CIFAR
ResNet-20 (He et al. 2016), all trained by one recipe?

*Networks.* ResNet-20 without a block; with SE, ECA and CBAM on every residual branch; with BAM
after the first two stages; with the hybrid that a search on held-out training images has chosen
and that was frozen before its first test. Hidden layers are a quarter of the channels
(`reduction={REDUCTION}`) in all of them: the papers' sixteenth would leave one hidden unit at
16 channels. Beside them two plain networks that cost about what a block costs: 17 channels for
16 (more parameters than any of the four papers' blocks adds), and 26 layers for 20 (more time
than SE, ECA or BAM).

*Runs.* Seeds 0 to {SEEDS - 1} for each, one seed of all networks after the other, within a seed
on one kind of machine and in one precision. The accuracy is that of the final epoch on all test
images. If time runs out, all of these networks have the same number of seeds. A run that was
repeated is named.

*Test.* Each of the five minus the network without a block, paired by seed, with one spread
pooled over these six networks (a model of two factors, network and seed); two-sided,
{CONFIDENCE:.0%}, Holm's correction for the five. This one test feeds figure, table and
sentence.

*Equivalence.* The same differences by two one-sided tests with a margin of ±{MARGIN} points,
Holm's correction for the five. What is neither different nor equivalent is called undecided.

*Against plain networks of the same cost.* Each of the five minus each of the two controls, by
the same model, corrected for these ten.

*What to take.* The cheapest network that is shown to be less than {MARGIN} points worse than
the most accurate within a budget (non-inferiority, one-sided, {CONFIDENCE:.0%}).

*Everything else* (other mechanisms, poolings, transformers, ablations) is exploratory: three
seeds or fewer, no verdict.

*Chosen beforehand, on training images held out* (5,000 of 50,000, seeds from 100 on): the
recipe, for the network without a block; the hybrid. The same recipe for all; whether a learning
rate of half or twice the recipe's, or a start as the identity, would have served a block better
is measured on the held-out images and reported.
"""

AGAIN = f"""\
**A second plan, committed before the first of its runs.**

*Why.* After seeds 0 to {SEEDS - 1} SE leads the network without a block by 0.42 points, and is
neither shown to differ from it nor to equal it. More of the same would not settle it: SE was asked
about because it led, so a part of its lead is luck, and whoever adds seeds until a test agrees
will see it agree.

*Question.* On seeds by which nothing was chosen: is ResNet-20 with SE more accurate than without?

*Runs.* These two networks as in the comparison, seeds {FRESH_SEEDS[0]} to {FRESH_SEEDS[-1]}, on one
kind of machine and in one precision; the final epoch, all test images. Nothing is tested before
the last seed. The records are kept; the weights are not, the repository would grow by a quarter.

*Test.* SE minus no block over these {len(FRESH_SEEDS)} seeds, paired, with one spread pooled over
them and the six networks of the first plan; two-sided, {CONFIDENCE:.0%}. One question, no
correction. If the spread stays what it was (0.35 points), a true difference of 0.36 points is found
in four cases of five.

*Equivalence.* The same difference by two one-sided tests with a margin of ±{MARGIN} points.

*Beside it*, as an estimate without a test, the difference over all {FRESH_SEEDS[-1] + 1} seeds.
"""
