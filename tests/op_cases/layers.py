# ----------------------------------------------------------------- softmax, norms and attention, to the third order

case("softmax", lambda L, x: L.softmax(x, 1), normal(3, 4), order=3)
case("softmax across memory", lambda L, x: L.softmax(x, 0), normal(3, 2, 2), order=3)
case("softmax of a 0-d tensor", lambda L, x: L.softmax(x, 0), normal(), order=3)
case("softmax of nothing", lambda L, x: L.softmax(x, 1), normal(0, 3), order=3)
case("softmin", lambda L, x: L.F.softmin(x, 1), normal(3, 4), order=3)
case("log_softmax", lambda L, x: L.log_softmax(x, -1), normal(3, 4), order=3)
case("log_softmax across memory", lambda L, x: L.log_softmax(x, 1), normal(2, 3, 2), order=3)
case("log_softmax of a 0-d tensor", lambda L, x: L.log_softmax(x, 0), normal(), order=3)
case("gumbel_softmax", lambda L, x: L.F.gumbel_softmax(x, tau=0.7, dim=0, generator=L.Generator(3)), normal(3, 2), order=3,
     unlike_torch=OWN_NUMBERS)  # fmt: skip

case("layer_norm", lambda L, x, w, b: L.F.layer_norm(x, 4, w, b) if L.module.__name__ != "torch" else
     L.F.layer_norm(x, (4,), w, b), normal(3, 4), normal(4), normal(4), order=3)  # fmt: skip
case("layer_norm over two dims", lambda L, x, w, b: L.F.layer_norm(x, (2, 3), w, b, eps=1e-2), normal(2, 2, 3), normal(2, 3),
     normal(2, 3), order=3)  # fmt: skip
case("layer_norm without parameters", lambda L, x: L.F.layer_norm(x, (4,)), normal(2, 4), order=3)
case("layer_norm without bias", lambda L, x, w: L.F.layer_norm(x, (4,), w), normal(2, 4), normal(4), order=3)
case("layer_norm of nothing", lambda L, x, w, b: L.F.layer_norm(x, (4,), w, b), normal(0, 4), normal(4), normal(4), order=3)
case("rms_norm", lambda L, x, w: L.F.rms_norm(x, (4,), w), normal(3, 4), normal(4), order=3)
case("rms_norm over two dims", lambda L, x: L.F.rms_norm(x, (2, 3), eps=1e-2), normal(2, 2, 3), order=3)
case("group_norm", lambda L, x, w, b: L.F.group_norm(x, 2, w, b), normal(2, 4, 3), normal(4), normal(4), order=3)
case("group_norm without parameters", lambda L, x: L.F.group_norm(x, 1, eps=1e-2), normal(2, 2, 2, 2), order=3)
case("instance_norm", lambda L, x, w, b: L.F.instance_norm(x, weight=w, bias=b), normal(2, 3, 4), normal(3), normal(3), order=3)
case("instance_norm of running statistics", lambda L, x: L.F.instance_norm(
     x, L.like(x, [0.5, -1]), L.like(x, [2, 0.7]), use_input_stats=False, eps=1e-2), normal(2, 2, 3))  # fmt: skip
case("instance_norm that tracks", lambda L, x: L.F.instance_norm(x, L.like(x, [0.5, -1]), L.like(x, [2, 0.7]), momentum=0.3),
     normal(2, 2, 3))  # fmt: skip
case("batch_norm", lambda L, x, w, b: L.F.batch_norm(x, None, None, w, b, training=True), normal(3, 2, 2), normal(2), normal(2),
     order=3)  # fmt: skip
case("batch_norm of rows", lambda L, x: L.F.batch_norm(x, None, None, training=True, eps=1e-2), normal(4, 3), order=3)
case("batch_norm of images that tracks", lambda L, x, w: L.F.batch_norm(
     x, L.like(x, [0.5, -1]), L.like(x, [2, 0.7]), w, training=True, momentum=0.3), normal(2, 2, 2, 2), normal(2), order=3)  # fmt: skip
case("batch_norm in evaluation", lambda L, x, w, b: L.F.batch_norm(x, L.like(x, [0.5, -1]), L.like(x, [2, 0.7]), w, b),
     normal(3, 2, 2), normal(2), normal(2), order=3)  # fmt: skip
case("batch_norm's statistics", lambda L, x: OPS["batch_norm"](x, None, None, eps=1e-2), normal(4, 3), order=3,
     unlike_torch=NOT_IN_TORCH)  # fmt: skip
case("normalize", lambda L, x: L.F.normalize(x), apart(3, 4))
case("normalize of order 3", lambda L, x: L.F.normalize(x, p=3.0, dim=0), apart(3, 4))
case("normalize below eps", lambda L, x: L.F.normalize(x, eps=100.0), apart(3, 4))
case("cosine_similarity", lambda L, x, y: L.F.cosine_similarity(x, y, dim=0), apart(3, 4), apart(3, 1))
case("cosine_similarity below eps", lambda L, x, y: L.F.cosine_similarity(x, y, eps=100.0), apart(3, 4), apart(3, 4))
case("pairwise_distance", lambda L, x, y: L.F.pairwise_distance(x, y), apart(3, 4), small(3, 4))
case("pairwise_distance of order 3", lambda L, x, y: L.F.pairwise_distance(x, y, p=3.0, eps=1e-2, keepdim=True),
     apart(3, 4), small(4))  # fmt: skip


def attention(name: str, *inputs: Any, unlike_torch: str = "", **options: Any) -> None:
    def function(L: Library, *xs: Any) -> Any:
        return L.F.scaled_dot_product_attention(*xs, **options)

    case(f"attention{name}", function, *inputs, order=3, unlike_torch=unlike_torch)


ALLOWED = np.array([[True, False, True], [True, True, True]])
attention("", normal(2, 2, 3), normal(2, 3, 3), normal(2, 3, 2))
attention(" without batch", normal(2, 3), normal(3, 3), normal(3, 2), scale=0.3)
attention(", causal", normal(1, 3, 2), normal(1, 3, 2), normal(1, 3, 2), is_causal=True)
attention(", masked by bools", normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 2), ALLOWED)
attention(", masked by numbers", normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 2), normal(2, 3))
attention(" of grouped heads", normal(1, 4, 2, 2), normal(1, 2, 3, 2), normal(1, 2, 3, 2), enable_gqa=True)
attention(" of grouped heads, masked", normal(1, 4, 2, 2), normal(1, 2, 3, 2), normal(1, 2, 3, 2), normal(4, 2, 3), enable_gqa=True)
attention(" to nothing", normal(1, 2, 2), normal(1, 3, 2), normal(1, 3, 2), np.array([[True, False, True], [False] * 3]),
          unlike_torch="torch gives NaN or zeros, as its back end pleases")  # fmt: skip
case("attention with dropout", lambda L, q, k, v: L.F.scaled_dot_product_attention(q, k, v, dropout_p=0.3,
     generator=L.Generator(3)), normal(2, 2, 2), normal(2, 3, 2), normal(2, 3, 2), order=3, unlike_torch=OWN_NUMBERS)  # fmt: skip

# --------------------------------------------------------------------------------------------------------- dropout

for name, shape in {"dropout": (3, 4), "dropout1d": (2, 3, 2), "dropout2d": (2, 3, 2, 2), "dropout3d": (2, 2, 1, 2, 2)}.items():
    case(name, lambda L, x, name=name: getattr(L.F, name)(x, p=0.4, generator=L.Generator(3)), normal(*shape),
         unlike_torch=OWN_NUMBERS)  # fmt: skip
    case(f"{name} in evaluation", lambda L, x, name=name: getattr(L.F, name)(x, p=0.4, training=False) * 2, normal(*shape))
case("alpha_dropout", lambda L, x: L.F.alpha_dropout(x, p=0.4, training=True, generator=L.Generator(3)), normal(3, 4),
     unlike_torch=OWN_NUMBERS)  # fmt: skip

# ---------------------------------------------------------------------------------------------------------- losses

REDUCTIONS = ("none", "mean", "sum")


def loss(name: str, function: Callable[..., Any], *inputs: Any, **options: Any) -> None:
    """``function(F, *tensors, reduction=...)`` with each reduction."""
    for reduction in REDUCTIONS:
        case(f"{name}, {reduction}", lambda L, *xs, r=reduction: function(L, *xs, reduction=r), *inputs, **options)


for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
    loss(name, lambda L, *xs, name=name, **r: getattr(L.F, name)(*xs, **r), apart(3, 4), uniform(-0.15, 0.15, 3, 4))
loss("smooth_l1_loss with beta", lambda L, *xs, **r: L.F.smooth_l1_loss(*xs, beta=0.6, **r), apart(6), uniform(-0.05, 0.05, 6))
loss("smooth_l1_loss, beta 0", lambda L, *xs, **r: L.F.smooth_l1_loss(*xs, beta=0.0, **r), apart(6), small(6))
loss("huber_loss with delta", lambda L, *xs, **r: L.F.huber_loss(*xs, delta=0.6, **r), apart(6), uniform(-0.05, 0.05, 6))
loss("binary_cross_entropy", lambda L, *xs, **r: L.F.binary_cross_entropy(*xs, **r), probability(3, 4), probability(3, 4))
loss("binary_cross_entropy weighted", lambda L, p, t, **r: L.F.binary_cross_entropy(
     p, t, weight=L.like(p, [1, 2, 0.5, 3]), **r), probability(3, 4), probability(3, 4))  # fmt: skip
loss("binary_cross_entropy_with_logits", lambda L, *xs, **r: L.F.binary_cross_entropy_with_logits(*xs, **r), normal(3, 4),
     probability(3, 4))  # fmt: skip
loss("binary_cross_entropy_with_logits weighted", lambda L, x, t, **r: L.F.binary_cross_entropy_with_logits(
     x, t, weight=L.like(x, [[1], [2], [0.5]]), pos_weight=L.like(x, [1, 2, 0.5, 3]), **r), normal(3, 4), probability(3, 4))  # fmt: skip
loss("binary_cross_entropy_with_logits with variable weights", lambda L, x, t, w, p, **r:
     L.F.binary_cross_entropy_with_logits(x, t, w, pos_weight=p, **r), normal(3, 4), probability(3, 4), positive(3, 1),
     positive(4), unlike_torch="its weights have no derivative")  # fmt: skip

CLASSES = np.array([2, 0, 2, 1])
for name in ("cross_entropy", "nll_loss"):
    f = lambda L, *xs, name=name, **r: getattr(L.F, name)(*xs, **r)  # noqa: E731
    loss(name, f, normal(4, 3), CLASSES)
    loss(f"{name} of one sample", f, normal(3), np.array(1))
    loss(f"{name} of images", f, normal(2, 3, 2), [[2, 0], [1, 1]])
    loss(f"{name} weighted", lambda L, x, t, f=f, **r: f(L, x, t, weight=L.like(x, [1, 2, 0.5]), **r), normal(4, 3), CLASSES)
    loss(f"{name} with some ignored", lambda L, x, t, f=f, **r: f(
         L, x, t, L.like(x, [1, 2, 0.5]), ignore_index=2, **r), normal(4, 3), CLASSES)  # fmt: skip
    loss(f"{name} with a variable weight", f, normal(4, 3), CLASSES, positive(3), unlike_torch="its weights have no derivative")
loss("cross_entropy smoothed", lambda L, *xs, **r: L.F.cross_entropy(*xs, label_smoothing=0.2, **r), normal(4, 3), CLASSES)
loss("cross_entropy, everything", lambda L, x, t, **r: L.F.cross_entropy(
     x, t, L.like(x, [1, 2, 0.5]), ignore_index=2, label_smoothing=0.2, **r), normal(2, 3, 2), [[2, 0], [1, 1]])  # fmt: skip
loss("cross_entropy of probabilities", lambda L, *xs, **r: L.F.cross_entropy(*xs, **r), normal(4, 3), distribution(4, 3))
loss("cross_entropy of probabilities, everything", lambda L, x, t, **r: L.F.cross_entropy(
     x, t, L.like(x, [1, 2, 0.5]), label_smoothing=0.2, **r), normal(4, 3), distribution(4, 3))  # fmt: skip
loss("kl_div", lambda L, *xs, **r: L.F.kl_div(*xs, **r), normal(3, 4), distribution(3, 4))
loss("kl_div of logarithms", lambda L, *xs, **r: L.F.kl_div(*xs, log_target=True, **r), normal(3, 4), normal(3, 4))
case("kl_div, batchmean", lambda L, x, t: L.F.kl_div(x, t, reduction="batchmean"), normal(3, 4), distribution(3, 4))
loss("gaussian_nll_loss", lambda L, *xs, **r: L.F.gaussian_nll_loss(*xs, **r), normal(3, 4), normal(3, 4), positive(3, 4))
loss("gaussian_nll_loss, full", lambda L, *xs, **r: L.F.gaussian_nll_loss(*xs, full=True, eps=0.1, **r), normal(3, 4), normal(3, 4),
     positive(3, 1))  # fmt: skip
loss("poisson_nll_loss", lambda L, *xs, **r: L.F.poisson_nll_loss(*xs, **r), normal(3, 4), positive(3, 4))
loss("poisson_nll_loss of means, full", lambda L, *xs, **r: L.F.poisson_nll_loss(*xs, log_input=False, full=True, eps=1e-2, **r),
     positive(6), uniform(1.2, 3, 6))  # fmt: skip

