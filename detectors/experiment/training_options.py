"""A recipe as PopTorch's options, for training and for the evaluations in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectors.experiment.recipe import Recipe
    from poplar_ops.runtime import poptorch

__all__ = ["inference_options", "poptorch_options"]

NO_RECOMPUTATION, PIPELINE_RECOMPUTATION = 0, 3  # of popart.RecomputationType


def poptorch_options(recipe: Recipe) -> poptorch.Options:
    """Of the training executor: one call is `device_iterations` updates of the weights, and
    returns the losses of every micro-batch.
    """
    from poplar_ops.runtime import poptorch

    options = common_options(recipe)
    options.randomSeed(recipe.seed)
    options.deviceIterations(recipe.device_iterations)
    options.replicationFactor(recipe.replication_factor)
    options.Training.gradientAccumulation(recipe.gradient_accumulation)
    options.Training.accumulationAndReplicationReductionType(poptorch.ReductionType.Mean)
    options.Precision.enableStochasticRounding(recipe.ipu.stochastic_rounding)
    if recipe.pipeline.splits:
        options.setExecutionStrategy(poptorch.PipelinedExecution())  # a stage is an IPU
        recompute = recipe.pipeline.recompute
        kind = PIPELINE_RECOMPUTATION if recompute else NO_RECOMPUTATION
        options._Popart.set("autoRecomputation", kind)
    return options


def inference_options(recipe: Recipe) -> poptorch.Options:
    """Of the evaluating executor: one call is one batch of `evaluate.micro_batch_size`.

    Stages take turns: a pipeline would need as many batches per call as it has stages.
    """
    from poplar_ops.runtime import poptorch

    options = common_options(recipe)
    if recipe.pipeline.splits:
        options.setExecutionStrategy(poptorch.ShardedExecution())
    return options


def common_options(recipe: Recipe) -> poptorch.Options:
    import torch  # here: a recipe is read before torch is needed

    from poplar_ops.runtime import poptorch

    options = poptorch.Options()
    options.outputMode(poptorch.OutputMode.All)
    options.autoRoundNumIPUs(True)  # three stages take four IPUs
    share = recipe.ipu.available_memory_proportion
    stages = len(recipe.pipeline.splits) + 1
    options.setAvailableMemoryProportion({f"IPU{stage}": share for stage in range(stages)})
    half = recipe.ipu.partials == "half"
    options.Precision.setPartialsType(torch.half if half else torch.float)
    if recipe.ipu.executable_cache:
        options.enableExecutableCaching(recipe.ipu.executable_cache)
    return options
