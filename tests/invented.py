"""Records of trainings that never were, of the form that `fit` writes."""


def record(
    name="fast-16 (plain)", seed=0, accuracy=80.0, dataset="flowers", block=None, family="plain",
    options=None, at=None, stages=None, width=16, parameters=1000, history=(), sessions=1, **run,
):  # fmt: skip
    """The record of one run; `history`: the training accuracy of each epoch."""
    precisions = ["bfloat16", "float32"][-sessions:]
    own = "stage" if block == "bam" else "residual"
    row = block and {"name": block, "family": family, "at": own, "version": "1"}
    return {
        "run": {"network": "fast", "width": width, "block": block, "at": at, "stages": stages,
                "start": None,
                "options": options or {}, "seed": seed, "epochs": 2} | run,
        "name": name,
        "family": family,
        "block": row,
        "dataset": {"name": dataset, "checksum": "0", "classes": 10, "train_images": 100,
                    "test_images": 50, "size": [32, 32], "class_names": [*"abcdefghij"],
                    "mean": [0.5] * 3, "std": [0.2] * 3},
        "result": {"test_accuracy": accuracy, "test_loss": 1.0, "parameters": parameters,
                   "flops": 2_500_000, "weights": "0",
                   "history": [
                       {"epoch": epoch, "train_loss": 2 - value / 100, "train_accuracy": value}
                       for epoch, value in enumerate(history, 1)]},
        "cost": {"seconds": 10.0, "epoch_seconds": [5.0, 5.0], "images_per_second": 10.0,
                 "test_seconds": 1.0, "peak_memory_mib": 1.0,
                 "sessions": [{"from_epoch": epoch, "hardware": "abacus", "precision": precision,
                               "threads": 2, "torch": "2"}
                              for epoch, precision in enumerate(precisions)]},
        "machine": {"device": "cpu", "hardware": "abacus", "threads": 2, "precision": "float32",
                    "python": "3", "torch": "2", "torchvision": "0", "commit": None,
                    "finished": "today"},
    }  # fmt: skip


def block(name, *arguments, family="channel", **options):
    """`record` of the plain network with a block, under the name that a run would have."""
    return record(f"fast-16 + {name}", *arguments, block=name, family=family, **options)


def study(values, family="channel", **options):
    """Records of {name: accuracies of the seeds 0, 1, …}; a name without a block is plain's."""
    return [
        block(name.removeprefix("fast-16 + "), seed, value, family=family, **options)
        if "+" in name
        else record(name, seed, value, **options)
        for name, row in values.items()
        for seed, value in enumerate(row)
    ]
