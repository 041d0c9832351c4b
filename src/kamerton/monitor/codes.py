"""Codes of the problems that detectors report, with their meaning; importing them imports no detector."""

CODES = {
    "non-finite-loss": "the loss is not a finite number",
    "non-finite-gradient": "the norm of the gradient is not a finite number",
    "loss-spike": "the loss of one step is 8 robust standard deviations above its level, twice the level, and a "
    "fifth of the first loss higher",
    "no-targets": "a step without a token to predict",
    "zero-gradient": "five gradients are exactly 0, and the loss does not improve",
    "learning-rate-too-high": "in the first half, near the peak learning rate, the loss climbs clearly above its "
    "lowest level or its start",
    "divergence": "the same in the second half, for any learning rate",
    "learning-rate-too-low": "after warm-up and a third of the run the loss has moved by less than 5 %",
    "plateau": "the loss fell, then stood still for a third of the run at a level with something left to learn",
    "underfitting": "after 40 % of the run two thirds of the first loss are left, and it hardly improves any more",
    "vanishing-gradient": "ten gradients are below a thousandth of the first ones, and the loss does not improve",
    "always-clipped": "95 % of 50 gradients are clipped, typically to less than a twentieth",
    "data-starvation": "a fifth of the time is spent waiting for batches",
    "throughput-drop": "less than half of the usual tokens per second, for ten values in a row",
    "memory-creep": "memory grows steadily, by a tenth within 40 steps",
    "chosen-falling": "the margin of preferences rises, and the better completions become less likely",
    "margin-saturated": "every preference is met, and the loss below a fiftieth of its start, with a third of the run "
    "left",
    "kl-runaway": "the model is over a nat per token from the reference, with rewards of preferences at which the loss "
    "is flat, or chosen completions a nat per token less likely, or while the reward of completions does not rise",
    "no-preference": "in the second half of the run the accuracy of preferences is at chance",
    "length-hacking": "a reward rises whose changes follow the length of the completions, which has risen by half, and "
    "the other rewards hardly rise",
    "no-signal": "in 20 steps the rewards are equal within over 80 % of the groups (in a shorter run, within all): all "
    "right, or all wrong",
    "policy-collapse": "the completions of a prompt hardly differ any more, at a reward clearly below the highest seen",
    "overfitting": "two validations in a row are worse than the best by 5 %, while the training loss falls",
    "suspicious-validation": "the validation loss is below a fifth of the training loss: leakage, or easy data",
    "prediction-collapse": "all answers begin with one token although the references do not",
    "nothing-learnt": "at the end every trained weight equals its initial value; the message names the cause (learning "
    "rate 0, gradient 0, updates too small for the number format)",
}
# Those that expect the loss to fall, or answers and validations to follow the references: not for training on rewards,
# whose loss is about 0 by construction.
OF_THE_LOSS = (
    *("loss-spike", "learning-rate-too-high", "divergence", "learning-rate-too-low", "plateau", "underfitting"),
    *("vanishing-gradient", "zero-gradient", "overfitting", "suspicious-validation"),
    "prediction-collapse",
)
