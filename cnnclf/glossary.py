"""The words of the field in one to three sentences, and the settings that they belong to.

One source for `cnnclf glossary`, docs/reference/glossary.md and the links in reports.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from cnnclf.config import AugmentConfig
from cnnclf.errors import UsageError


@dataclass(frozen=True)
class Term:
    """A word and what it means.

    Args:
        name: In lower case, but for names.
        text: One to three sentences.
        settings: Dotted keys of the settings that it explains, of any command.
        aliases: Other names of it.
    """

    name: str
    text: str
    settings: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """Its name as part of an address."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def names(self) -> tuple[str, ...]:
        """Everything it is found by: the name, other names, and settings."""
        return (self.name, *self.aliases, *(key.rpartition(".")[2] for key in self.settings))


def find_term(name: str) -> Term:
    """Find a term by its name, another name, a setting or an option.

    Args:
        name: Such as stride, "weight decay", weight-decay or --pool-size.

    Raises:
        UsageError: There is no such term.
    """
    found = _by_key().get(_key(name))
    if found is None:
        cutoff = 0.6 if len(name) > _SHORT else 0.8  # short names are alike by chance
        near = get_close_matches(_key(name), _by_key(), n=3, cutoff=cutoff)
        terms = list(dict.fromkeys(_by_key()[key].name for key in near))
        commands = " or ".join(f"cnnclf glossary {_quoted(term)}" for term in terms)
        raise UsageError(
            f"the glossary has no term {name!r}",
            f"did you mean {commands}?" if terms else "cnnclf glossary lists all terms",
        )
    return found


def find_setting(key: str) -> Term | None:
    """Find the term that explains a setting; None if there is none.

    Args:
        key: Dotted, such as model.kernel_size.
    """
    return next((term for term in TERMS if key in term.settings), None)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name


@cache
def _by_key() -> dict[str, Term]:
    found: dict[str, Term] = {}
    # "padding" is the term of this name, whatever else it is a name for
    names = [(term.name, term) for term in TERMS]
    names += [(name, term) for term in TERMS for name in term.names]
    for name, own in names:
        found.setdefault(_key(name), own)
    return found


_SHORT = 4  # letters

TERMS: tuple[Term, ...] = (
    Term(
        "accuracy",
        "The fraction of images whose most probable label is the true one. On few images it is "
        "uncertain: the 95 % interval says which values fit what was counted. Balanced accuracy is "
        "the mean over classes, so that large classes count no more than small ones.",
        aliases=("test accuracy", "val accuracy", "confidence interval", "balanced accuracy"),
    ),
    Term(
        "activation function",
        "A curve applied to every value after a convolution or dense layer. Without one, any stack "
        "of layers would equal a single linear layer. ReLU keeps positive values and sets others "
        "to 0; leaky ReLU, ELU, SELU, GELU and Swish keep a little of negative values.",
        settings=("model.activation",),
        aliases=("relu", "leaky relu", "elu", "selu", "gelu", "swish", "tanh", "sigmoid"),
    ),
    Term(
        "Adam",
        "Gradient descent with a step size of its own for every weight, from running averages of "
        "the gradient and its square. AdamW applies weight decay apart from the gradient. RMSprop "
        "averages the squares only.",
        aliases=("adamw", "rmsprop"),
    ),
    Term(
        "augmentation",
        "Random changes of training images, such as shifts, flips or other brightness, that leave "
        "the class unchanged. The network sees more variety and overfits later. An operation that "
        "changes the class, such as flipping letters, does harm.",
        settings=(
            *(f"augment.{name}" for name in AugmentConfig.model_fields),
            "augment.alternate_flips",
        ),
        aliases=("data augmentation", "random crop"),
    ),
    Term(
        "backbone",
        "A network that was trained on a large dataset and is used again without its last layer. "
        "Its features are often useful for other images.",
        settings=("backbone.name", "backbone.weights"),
        aliases=("trunk", "pretrained network"),
    ),
    Term(
        "backpropagation",
        "Computes the gradient of the loss for all weights in one pass from the last layer to the "
        "first, by the chain rule. Training needs it; predicting does not.",
        aliases=("backward pass", "chain rule"),
    ),
    Term(
        "batch",
        "The images whose mean gradient makes one step. Large batches have less noise and use the "
        "processor better; small ones make more steps per epoch.",
        settings=("training.batch_size",),
        aliases=("mini batch", "step"),
    ),
    Term(
        "batch normalization",
        "Scales each feature map to mean 0 and standard deviation 1 over the batch, then scales "
        "and shifts it by two learned numbers. Training tolerates higher learning rates. "
        "Predictions use averages that were collected during training.",
        settings=("model.batch_norm", "model.norm_scale"),
        aliases=("batch norm", "batchnorm"),
    ),
    Term(
        "bias",
        "A learned number that is added to every value of a feature map or unit, so that the "
        "answer to zero input need not be zero.",
    ),
    Term(
        "calibration",
        "Probabilities are calibrated if of all predictions with probability 0.8, 80 % are "
        "correct. The expected calibration error (ECE) is the mean distance from that; a "
        "reliability diagram shows where it is.",
        settings=("training.calibrate",),
        aliases=("ece", "calibration error", "reliability diagram"),
    ),
    Term(
        "checkpoint",
        "The weights of a network after an epoch, in a file. The best one, on the val split, is "
        "used; the last one continues an interrupted run.",
    ),
    Term(
        "class imbalance",
        "Some classes have many more training images than others, so the network prefers them. "
        "Weights make rare classes count more in the loss, sampling shows them more often, and "
        "focal loss makes images that are still wrong count more.",
        settings=("training.balance", "training.focal_gamma"),
        aliases=("focal loss", "class weights", "imbalance"),
    ),
    Term(
        "confusion matrix",
        "Counts images by true class (rows) and predicted class (columns). Correct ones are on the "
        "diagonal; two classes that are mixed up stand out.",
    ),
    Term(
        "convolution",
        "Slides a filter over the image and computes at each place the sum of products of kernel "
        "and pixels below it. The result is large where the image looks like the kernel.",
        settings=("model.convs_per_block", "model.blocks"),
        aliases=("conv", "convolutional layer", "cnn", "block"),
    ),
    Term(
        "coverage",
        "The fraction of images that are labeled at all if predictions below a threshold are "
        "left to people. The risk is the error rate among the labeled ones. The lower the risk "
        "at a given coverage, the better the probabilities sort right from wrong: AURC and AUGRC "
        "are areas of this curve, the lower the better.",
        aliases=("risk", "risk coverage", "threshold", "selective prediction", "aurc", "augrc"),
    ),
    Term(
        "cross-entropy",
        "The loss of classification: minus the logarithm of the probability of the true class. 0 "
        "if the network is certain and right, large if it is certain and wrong.",
        aliases=("log loss",),
    ),
    Term(
        "dense layer",
        "Every output depends on every input, each with a weight of its own. In a CNN it is the "
        "vote at the end: each feature speaks for or against each class.",
        settings=("model.dense_units", "head.units"),
        aliases=("fully connected layer", "head", "dense votes"),
    ),
    Term(
        "dropout",
        "Sets a random fraction of the values to 0 in each training step, so that no value can "
        "rely on another one. Off for predictions.",
        settings=("model.dropout", "head.dropout"),
    ),
    Term(
        "early stopping",
        "Ends training when the val split has not improved for some epochs (the patience), or "
        "cannot improve.",
        settings=("training.patience", "training.perfect_loss"),
        aliases=("patience",),
    ),
    Term(
        "epoch",
        "One pass through all training images.",
        settings=("training.epochs", "training.minutes", "head.epochs", "tail.epochs"),
    ),
    Term(
        "evidence map",
        "Shows what each place of an image adds to the logit of a class: red for it, blue "
        "against it. Exact where the last layer is the only dense one: the places and the bias "
        "add up to the logit. It is a class activation map (CAM) with both signs.",
        aliases=("class activation map", "cam", "grad-cam", "heatmap", "heat map", "saliency"),
    ),
    Term(
        "familiarity",
        "How near an image is to the training images in the last features of the network, as a "
        "fraction of ordinary images that are no nearer. Near 0, it is unlike anything learned, "
        "and its label means little.",
        aliases=("familiar", "ood", "out of distribution", "nearest training image"),
    ),
    Term(
        "feature map",
        "The result of one filter at all places: a gray image of where its pattern is. A layer "
        "with 32 filters has 32 feature maps.",
        aliases=("channel", "feature"),
    ),
    Term(
        "filter",
        "A small pattern that a convolution looks for everywhere; its weights are learned. The "
        "number of filters is the number of patterns a layer can tell apart.",
        settings=("model.filters",),
    ),
    Term(
        "global pooling",
        "Turns each feature map into one number, its mean or maximum, so that the network accepts "
        "the pattern anywhere. Flattening keeps all places instead, and needs many more weights.",
        settings=("model.top", "head.pooling"),
        aliases=("global average pooling", "flatten"),
    ),
    Term(
        "gradient clipping",
        "Shortens a gradient that is longer than a limit, so that one odd batch cannot ruin the "
        "weights.",
        settings=("optimizer.clip_norm", "tail.clip_norm"),
        aliases=("exploding gradient",),
    ),
    Term(
        "gradient descent",
        "Changes all weights by a small step against the gradient, the direction in which the loss "
        "grows fastest. Stochastic gradient descent (SGD) takes the gradient of one batch.",
        settings=("optimizer.name",),
        aliases=("sgd", "optimizer", "gradient"),
    ),
    Term(
        "hyperparameter",
        "A setting that training does not learn, such as the learning rate or the number of "
        "filters. It is chosen by experience or by its result on the val split.",
    ),
    Term(
        "kernel",
        "The weights of a filter, for example 3 by 3 for each input channel. Two layers with "
        "kernels of 3 see as far as one of 5, with fewer weights.",
        settings=("model.kernel_size", "model.initial_kernels"),
    ),
    Term(
        "L1",
        "Adds the sum of absolute weights to the loss, which drives weights that do little to "
        "exactly 0.",
        settings=("model.l1",),
        aliases=("l1 regularization",),
    ),
    Term(
        "L2",
        "Adds the sum of squared weights to the loss, which keeps all weights small. With Adam, "
        "weight decay is the better form of it.",
        settings=("model.l2",),
        aliases=("l2 regularization", "regularization"),
    ),
    Term(
        "label smoothing",
        "Asks for a probability a little below 1 for the true class, so that logits do not grow "
        "without end.",
        settings=("training.label_smoothing",),
    ),
    Term(
        "learning rate",
        "The length of a step of gradient descent. Too high, and the loss jumps or becomes "
        "infinite; too low, and training takes too long. It is the hyperparameter to try first.",
        settings=("optimizer.learning_rate", "head.learning_rate", "tail.learning_rate"),
    ),
    Term(
        "learning rate schedule",
        "How the learning rate changes: it grows during the warmup and then falls, on a cosine for "
        "example, so that the last steps are fine.",
        settings=(
            *("optimizer.schedule", "optimizer.warmup", "head.schedule", "head.warmup"),
            *("tail.schedule", "tail.warmup"),
        ),
        aliases=("warmup", "cosine", "one cycle", "plateau"),
    ),
    Term(
        "local minimum",
        "A point where every small step raises the loss, though there are lower ones elsewhere. "
        "With many weights such points are rarely a problem; flat stretches and noise are.",
        aliases=("local minima", "saddle point"),
    ),
    Term(
        "logit",
        "The number that the last layer computes for a class, before softmax. Any real number.",
        aliases=("logits",),
    ),
    Term(
        "loss",
        "The number that training makes smaller: how wrong the network is on a batch. Here "
        "cross-entropy.",
        aliases=("loss function", "val loss"),
    ),
    Term(
        "momentum",
        "Adds a fraction of the last step to the next one, which evens out noise and speeds up "
        "long slopes.",
        settings=("optimizer.momentum",),
    ),
    Term(
        "Muon",
        "An optimizer for the kernels of convolutions: a step changes all directions of a kernel "
        "about equally, where the gradient has a few large ones, and by a given fraction of its "
        "size. All other weights are trained by AdamW. It needs fewer epochs than Adam.",
        aliases=("muon",),
    ),
    Term(
        "overfitting",
        "The network learns the training images rather than the class: the training loss still "
        "falls while the val loss rises. More data, augmentation, dropout and fewer epochs help.",
        aliases=("generalization",),
    ),
    Term(
        "padding",
        "What a filter sees beyond the edge. With same, zeros are added so that the feature map "
        "keeps its size; with valid, the filter stays inside and the map shrinks.",
        settings=("model.padding",),
    ),
    Term(
        "parameter",
        "A number that training learns: a weight or a bias. MACs are the multiplications, each "
        "with an addition, that one image takes; they say more about speed than parameters do.",
        aliases=("parameters", "params", "weights of a network", "mac", "macs", "flops"),
    ),
    Term(
        "pixel",
        "The smallest element of an image: a number from 0 to 255 for gray, three for red, green "
        "and blue. The network gets nothing else.",
        settings=("data.image_size", "data.color", "data.fit", "data.range"),
        aliases=("image size", "color"),
    ),
    Term(
        "pooling",
        "Replaces each window of a feature map by its maximum or mean. The map gets smaller, "
        "small shifts no longer matter, and later layers see more of the image.",
        settings=(
            *("model.pooling", "model.pool_size", "model.pool_stride", "model.pool_last"),
            "model.pool_after",
        ),
        aliases=("max pooling", "average pooling"),
    ),
    Term(
        "precision",
        "Of the images that were given a label, the fraction that has it. Recall: of the images "
        "that have it, the fraction that was found. F1 is their harmonic mean, macro F1 the mean "
        "of that over classes.",
        aliases=(
            "recall",
            "f1",
            "macro f1",
            "precision recall curve",
            "average precision",
            "f1 score",
            "sensitivity",
        ),
    ),
    Term(
        "quantization",
        "Stores weights in fewer bits: float16 halves the size, int8 quarters it and also computes "
        "with whole numbers, whose range is measured on images (calibration).",
        aliases=("quantize", "int8"),
    ),
    Term(
        "receptive field",
        "The part of the image that a value of a feature map depends on. It grows from layer to "
        "layer, fastest by strides and pooling.",
    ),
    Term(
        "ROC curve",
        "For one class against the others: the fraction of its images found, against the fraction "
        "of others taken for it, as the threshold falls. The area (AUC) is the chance that one of "
        "its images gets a higher probability than another image; 0.5 is guessing.",
        aliases=("auc", "roc", "true positive rate", "false positive rate"),
    ),
    Term(
        "seed",
        "The start of the random numbers: first weights, order of images, augmentation. The same "
        "seed repeats a run; other seeds show how much of a result is luck.",
        settings=("runtime.seed", "runtime.deterministic"),
    ),
    Term(
        "set of labels",
        "Labels that hold the true one at a promised rate (a prediction set of conformal "
        "prediction): one if the network is certain, more if it is not. LAC makes the smallest "
        "sets, APS and RAPS larger ones for hard images.",
        aliases=("label set", "sets of labels", "conformal prediction", "lac", "aps", "raps"),
    ),
    Term(
        "softmax",
        "Turns logits into probabilities: exponentials, divided by their sum.",
        aliases=("probability",),
    ),
    Term(
        "spectrogram",
        "A sound as an image: time from left to right, frequency from bottom to top, brighter "
        "where it is louder.",
        settings=("data.seconds",),
        aliases=("sound",),
    ),
    Term(
        "split",
        "A part of the dataset. The network learns from train, the best epoch is chosen on val, "
        "and test is measured once, at the end, on images that decided nothing.",
        aliases=(
            "train",
            "val",
            "test",
            "validation",
            "training set",
            "validation set",
            "test set",
        ),
    ),
    Term(
        "stride",
        "How many pixels a filter moves from one place to the next. Stride 2 halves both sides of "
        "the feature map.",
        settings=("model.stride",),
    ),
    Term(
        "temperature",
        "A number that divides all logits before softmax. Above 1, probabilities become less "
        "extreme; labels stay the same. It is fitted on the val split to calibrate them.",
    ),
    Term(
        "test-time augmentation",
        "Predicts several views of an image, such as the image and its mirror image, and averages "
        "their logits. Often a little more accurate, and as many times slower; wrong where "
        "mirroring changes the class.",
        aliases=("tta", "views"),
    ),
    Term(
        "top-k",
        "The k most probable labels. Top-k accuracy counts an image as right if the true label is "
        "among them.",
        aliases=("top 5", "top k accuracy", "top 5 accuracy"),
    ),
    Term(
        "transfer learning",
        "Starts from a backbone instead of random weights: first a new head is trained on its "
        "features, then, with a small learning rate, its last layers. Useful with few images.",
        settings=("tail.unfreeze", "tail.interpolate", "tail.layer_decay", "head.search"),
        aliases=("fine-tuning", "fine tune"),
    ),
    Term(
        "vanishing gradient",
        "The gradient gets smaller from layer to layer on its way to the first one, which then "
        "hardly learns. ReLU and batch normalization help. A ReLU that is 0 for every image is "
        "dead: its gradient is 0, too. A trace shows both.",
        settings=("training.trace",),
        aliases=("dead relu", "trace"),
    ),
    Term(
        "weight averaging",
        "Keeps a moving average of the weights (EMA) and uses it instead of the last ones, which "
        "are noisy.",
        settings=("optimizer.ema",),
        aliases=("ema",),
    ),
    Term(
        "weight decay",
        "Makes every weight a little smaller in each step, apart from the gradient. It acts "
        "against overfitting as L2 does.",
        settings=("optimizer.weight_decay", "head.weight_decay", "tail.weight_decay"),
    ),
    Term(
        "weight sharing",
        "A filter has the same weights at all places. A pattern that was learned at one place is "
        "found at all others, and the number of weights does not depend on the size of the image.",
    ),
    Term(
        "whitening",
        "Fixed weights of a first layer that turn patches of images into uncorrelated values of "
        "equal variance. Brightness and large shapes no longer drown out details.",
        settings=("model.whiten",),
    ),
)
