"""The tables of names that a specification may use: data for :mod:`fxgrow.spec.allowlist`.

The names are literals, not derived from the installed torch, so that a new torch cannot silently
widen what a spec file may reach. Left out on purpose: whatever reads or writes files, changes
global state, hands out raw storage or pointers, takes a callable, or builds sparse tensors without
checking their indices. A name that the installed torch lacks is unknown.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# operator.*, as fx emits for arithmetic on proxies. Without attrgetter, methodcaller, itemgetter
# and call, which reach arbitrary attributes or functions. setitem writes elements of the values of
# nodes: tensors, and tuples, lists and dicts of them.
OPERATOR = _words(
    """
    abs add and_ contains eq floordiv ge getitem gt iadd iand ifloordiv ilshift imatmul imod imul
    index inv invert ior ipow irshift is_ is_not isub itruediv ixor le lshift lt matmul mod mul ne
    neg not_ or_ pos pow rshift setitem sub truediv truth xor
    """
)

# The operators that overwrite their first operand; the fingerprint keeps their order.
IN_PLACE_OPERATORS = _words(
    "iadd iand ifloordiv ilshift imatmul imod imul ior ipow irshift isub itruediv ixor setitem"
)

BUILTINS = _words("abs bool float getattr int len max min round sum")

MATH = _words("ceil exp floor log log10 log2 pow prod sqrt trunc")

# What ``getattr`` may read: plain data of a tensor, never a method.
ATTRIBUTES = _words(
    """
    H T device dtype imag is_cpu is_cuda is_leaf is_meta is_quantized is_sparse itemsize layout mH
    mT nbytes ndim real requires_grad shape
    """
)

# torch.*
TORCH = _words(
    """
    _assert abs abs_ absolute acos acos_ acosh acosh_ adaptive_avg_pool1d adaptive_max_pool1d add
    addbmm addcdiv addcmul addmm addmv addmv_ addr adjoint affine_grid_generator alias_copy all
    allclose alpha_dropout alpha_dropout_ amax amin aminmax angle any arange arccos arccos_ arccosh
    arccosh_ arcsin arcsin_ arcsinh arcsinh_ arctan arctan2 arctan_ arctanh arctanh_ argmax argmin
    argsort argwhere as_tensor asin asin_ asinh asinh_ atan atan2 atan_ atanh atanh_ atleast_1d
    atleast_2d atleast_3d avg_pool1d baddbmm bartlett_window batch_norm bernoulli bilinear
    binary_cross_entropy_with_logits bincount binomial bitwise_and bitwise_left_shift bitwise_not
    bitwise_or bitwise_right_shift bitwise_xor blackman_window block_diag bmm broadcast_shapes
    broadcast_tensors broadcast_to bucketize cartesian_prod cat cdist ceil ceil_ celu celu_
    chain_matmul channel_shuffle cholesky_inverse cholesky_solve chunk clamp clamp_ clamp_max
    clamp_max_ clamp_min clamp_min_ clip clip_ clone column_stack combinations complex concat
    concatenate conj conj_physical conj_physical_ constant_pad_nd conv1d conv2d conv3d conv_tbc
    conv_transpose1d conv_transpose2d conv_transpose3d convolution copysign corrcoef cos cos_ cosh
    cosh_ cosine_embedding_loss cosine_similarity count_nonzero cov cross ctc_loss cummax cummin
    cumprod cumsum cumulative_trapezoid deg2rad deg2rad_ det detach detach_copy diag diag_embed
    diagflat diagonal diagonal_copy diagonal_scatter diff digamma dist div divide dot dropout
    dropout_ dsplit dstack einsum embedding embedding_bag empty empty_like eq equal erf erf_ erfc
    erfc_ erfinv exp exp2 exp2_ exp_ expand_copy expm1 expm1_ eye feature_alpha_dropout
    feature_alpha_dropout_ feature_dropout feature_dropout_ fill fill_ fix fix_ flatten flip fliplr
    flipud float_power floor floor_ floor_divide fmax fmin fmod frac frac_ frexp frobenius_norm full
    full_like gather gcd gcd_ ge geqrf ger gradient greater greater_equal grid_sampler
    grid_sampler_2d grid_sampler_3d group_norm gru gru_cell gt hamming_window hann_window hardshrink
    heaviside hinge_embedding_loss histc histogram hsplit hstack hypot i0 i0_ igamma igammac imag
    index_add index_copy index_fill index_put index_put_ index_reduce index_select inner
    instance_norm inverse is_complex is_conj is_floating_point is_inference is_neg is_nonzero
    is_same_size is_signed isclose isfinite isin isinf isnan isneginf isposinf isreal istft
    kaiser_window kl_div kron kthvalue layer_norm lcm lcm_ ldexp ldexp_ le lerp less less_equal
    lgamma linspace log log10 log10_ log1p log1p_ log2 log2_ log_ log_softmax logaddexp logaddexp2
    logcumsumexp logdet logical_and logical_not logical_or logical_xor logit logit_ logspace
    logsumexp lstm lstm_cell lt lu lu_solve lu_unpack margin_ranking_loss masked_fill masked_scatter
    masked_select matmul matrix_exp matrix_power max max_pool1d max_pool1d_with_indices max_pool2d
    max_pool3d maximum mean median meshgrid min minimum mm mode moveaxis movedim msort mul
    multinomial multiply mv mvlgamma nan_to_num nan_to_num_ nanmean nanmedian nanquantile nansum
    narrow narrow_copy native_batch_norm native_channel_shuffle native_dropout native_group_norm
    native_layer_norm native_norm ne neg neg_ negative negative_ nextafter nonzero nonzero_static
    norm normal not_equal nuclear_norm numel ones ones_like orgqr ormqr outer pairwise_distance
    pca_lowrank pdist permute permute_copy pinverse pixel_shuffle pixel_unshuffle poisson
    poisson_nll_loss polar polygamma positive pow prelu prod put quantile rad2deg rad2deg_ rand
    rand_like randint randint_like randn randn_like randperm range ravel real reciprocal reciprocal_
    relu relu_ remainder renorm repeat_interleave reshape resolve_conj resolve_neg rms_norm rnn_relu
    rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90 round round_ row_stack rrelu rrelu_ rsqrt rsqrt_
    rsub scalar_tensor scatter scatter_add scatter_reduce searchsorted segment_reduce select
    select_copy select_scatter selu selu_ sgn sigmoid sigmoid_ sign signbit sin sin_ sinc sinc_ sinh
    sinh_ slice_copy slice_scatter slogdet softmax sort split split_copy split_with_sizes
    split_with_sizes_copy sqrt sqrt_ square square_ squeeze squeeze_copy stack std std_mean stft sub
    subtract sum svd svd_lowrank swapaxes swapdims sym_float sym_int sym_max sym_min sym_not t
    t_copy take take_along_dim tan tan_ tanh tanh_ tensor tensor_split tensordot threshold
    threshold_ tile topk trace transpose transpose_copy trapezoid trapz triangular_solve tril
    tril_indices triplet_margin_loss triu triu_indices true_divide trunc trunc_ unbind unbind_copy
    unflatten unfold_copy unique unique_consecutive unravel_index unsafe_chunk unsafe_split
    unsafe_split_with_sizes unsqueeze unsqueeze_copy vander var var_mean vdot view_as_complex
    view_as_complex_copy view_as_real view_as_real_copy view_copy vsplit vstack where xlogy xlogy_
    zero_ zeros zeros_like
    """
)

# torch.nn.functional.*, minus its helpers and what takes a callable
FUNCTIONAL = _words(
    """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool1d_with_indices adaptive_max_pool2d adaptive_max_pool2d_with_indices
    adaptive_max_pool3d adaptive_max_pool3d_with_indices affine_grid alpha_dropout avg_pool1d
    avg_pool2d avg_pool3d batch_norm bilinear binary_cross_entropy binary_cross_entropy_with_logits
    celu celu_ channel_shuffle conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d
    conv_transpose3d cosine_embedding_loss cosine_similarity cross_entropy ctc_loss dropout
    dropout1d dropout2d dropout3d elu elu_ embedding embedding_bag feature_alpha_dropout fold
    fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d
    fractional_max_pool3d_with_indices gaussian_nll_loss gelu glu grid_sample group_norm grouped_mm
    gumbel_softmax hardshrink hardsigmoid hardswish hardtanh hardtanh_ hinge_embedding_loss
    huber_loss instance_norm interpolate kl_div l1_loss layer_norm leaky_relu leaky_relu_ linear
    linear_cross_entropy local_response_norm log_softmax logsigmoid lp_pool1d lp_pool2d lp_pool3d
    margin_ranking_loss max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices
    max_pool3d max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d mish mse_loss
    multi_head_attention_forward multi_margin_loss multilabel_margin_loss
    multilabel_soft_margin_loss native_channel_shuffle nll_loss normalize one_hot pad
    pairwise_distance pdist pixel_shuffle pixel_unshuffle poisson_nll_loss prelu relu relu6 relu_
    rms_norm rrelu rrelu_ scaled_dot_product_attention scaled_grouped_mm scaled_mm selu selu_
    sigmoid silu smooth_l1_loss soft_margin_loss softmax softmin softplus softshrink softsign tanh
    tanhshrink threshold threshold_ triplet_margin_loss unfold upsample upsample_bilinear
    upsample_nearest
    """
)

# Methods of torch.Tensor that a call_method node may name.
METHODS = _words(
    """
    abs abs_ absolute absolute_ acos acos_ acosh acosh_ add add_ addbmm addbmm_ addcdiv addcdiv_
    addcmul addcmul_ addmm addmm_ addmv addmv_ addr addr_ adjoint all allclose amax amin aminmax
    angle any arccos arccos_ arccosh arccosh_ arcsin arcsin_ arcsinh arcsinh_ arctan arctan2
    arctan2_ arctan_ arctanh arctanh_ argmax argmin argsort argwhere asin asin_ asinh asinh_ atan
    atan2 atan2_ atan_ atanh atanh_ baddbmm baddbmm_ bernoulli bernoulli_ bfloat16 bincount
    bitwise_and bitwise_and_ bitwise_left_shift bitwise_left_shift_ bitwise_not bitwise_not_
    bitwise_or bitwise_or_ bitwise_right_shift bitwise_right_shift_ bitwise_xor bitwise_xor_ bmm
    bool broadcast_to byte cdouble ceil ceil_ cfloat chalf char cholesky_inverse cholesky_solve
    chunk clamp clamp_ clamp_max clamp_max_ clamp_min clamp_min_ clip clip_ clone conj conj_physical
    conj_physical_ contiguous copy_ copysign copysign_ corrcoef cos cos_ cosh cosh_ count_nonzero
    cov cpu cross cummax cummin cumprod cumprod_ cumsum cumsum_ deg2rad deg2rad_ det detach diag
    diag_embed diagflat diagonal diagonal_scatter diff digamma digamma_ dim dist div div_ divide
    divide_ dot double dsplit element_size eq eq_ equal erf erf_ erfc erfc_ erfinv erfinv_ exp exp2
    exp2_ exp_ expand expand_as expm1 expm1_ exponential_ fill_ fill_diagonal_ fix fix_ flatten flip
    fliplr flipud float float_power float_power_ floor floor_ floor_divide floor_divide_ fmax fmin
    fmod fmod_ frac frac_ frexp gather gcd gcd_ ge ge_ geqrf ger get_device greater greater_
    greater_equal greater_equal_ gt gt_ half hardshrink heaviside heaviside_ histc histogram hsplit
    hypot hypot_ i0 i0_ igamma igamma_ igammac igammac_ index index_add index_add_ index_copy
    index_copy_ index_fill index_fill_ index_put index_put_ index_reduce index_reduce_ index_select
    inner int inverse is_complex is_conj is_contiguous is_floating_point is_neg is_nonzero
    is_same_size is_signed isclose isfinite isinf isnan isneginf isposinf isreal istft item kron
    kthvalue lcm lcm_ ldexp ldexp_ le le_ lerp lerp_ less less_ less_equal less_equal_ lgamma
    lgamma_ log log10 log10_ log1p log1p_ log2 log2_ log_ log_softmax logaddexp logaddexp2
    logcumsumexp logdet logical_and logical_and_ logical_not logical_not_ logical_or logical_or_
    logical_xor logical_xor_ logit logit_ logsumexp long lt lt_ lu lu_solve masked_fill masked_fill_
    masked_scatter masked_scatter_ masked_select matmul matrix_exp matrix_power max maximum mean
    median min minimum mm mode moveaxis movedim msort mul mul_ multinomial multiply multiply_ mv
    mvlgamma mvlgamma_ nan_to_num nan_to_num_ nanmean nanmedian nanquantile nansum narrow
    narrow_copy ndimension ne ne_ neg neg_ negative negative_ nelement new_empty new_empty_strided
    new_full new_ones new_tensor new_zeros nextafter nextafter_ nonzero nonzero_static norm normal_
    not_equal not_equal_ numel orgqr ormqr outer permute pinverse polygamma polygamma_ positive pow
    pow_ prelu prod put put_ quantile rad2deg rad2deg_ ravel reciprocal reciprocal_ relu relu_
    remainder remainder_ renorm renorm_ repeat repeat_interleave reshape reshape_as resolve_conj
    resolve_neg roll rot90 round round_ rsqrt rsqrt_ scatter scatter_ scatter_add scatter_add_
    scatter_reduce scatter_reduce_ select select_scatter sgn sgn_ short sigmoid sigmoid_ sign sign_
    signbit sin sin_ sinc sinc_ sinh sinh_ size slice_scatter slogdet softmax sort split
    split_with_sizes sqrt sqrt_ square square_ squeeze squeeze_ std stft stride sub sub_ subtract
    subtract_ sum sum_to_size svd swapaxes swapaxes_ swapdims swapdims_ t t_ take take_along_dim tan
    tan_ tanh tanh_ tensor_split tile to to_dense to_padded_tensor topk trace transpose transpose_
    triangular_solve tril tril_ triu triu_ true_divide true_divide_ trunc trunc_ type_as unbind
    unflatten unfold uniform_ unique unique_consecutive unsafe_chunk unsafe_split
    unsafe_split_with_sizes unsqueeze unsqueeze_ var vdot view view_as vsplit where xlogy xlogy_
    zero_
    """
)

# Only in torch.ops.aten, as torch.export writes them; every name above is good there too.
ATEN = _words(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _assert_scalar _assert_tensor_metadata _log_softmax
    _native_batch_norm_legit _native_batch_norm_legit_no_training
    _scaled_dot_product_flash_attention_for_cpu _softmax _to_copy _unsafe_view alias col2im
    grid_sampler_2d im2col lift_fresh_copy max_pool2d_with_indices max_pool3d_with_indices new_empty
    new_full new_ones new_zeros reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
    replication_pad2d replication_pad3d slice slice_scatter sym_numel sym_size sym_stride
    upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d
    upsample_nearest3d upsample_trilinear3d
    """
)

# Classes whose constructors take plain values. Without lazy, data-parallel and loss modules;
# sequences and lists of modules are traced through.
MODULES = _words(
    """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
    AdaptiveMaxPool3d AlphaDropout AvgPool1d AvgPool2d AvgPool3d BatchNorm1d BatchNorm2d BatchNorm3d
    Bilinear CELU ChannelShuffle CircularPad1d CircularPad2d CircularPad3d ConstantPad1d
    ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d
    CosineSimilarity CrossMapLRN2d Dropout Dropout1d Dropout2d Dropout3d ELU Embedding EmbeddingBag
    FeatureAlphaDropout Flatten Fold FractionalMaxPool2d FractionalMaxPool3d GELU GLU GRU GRUCell
    GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh Identity InstanceNorm1d InstanceNorm2d
    InstanceNorm3d LPPool1d LPPool2d LPPool3d LSTM LSTMCell LayerNorm LeakyReLU Linear
    LocalResponseNorm LogSigmoid LogSoftmax MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d
    MaxUnpool3d Mish Module MultiheadAttention PReLU PairwiseDistance PixelShuffle PixelUnshuffle
    RMSNorm RNN RNNCell RReLU ReLU ReLU6 ReflectionPad1d ReflectionPad2d ReflectionPad3d
    ReplicationPad1d ReplicationPad2d ReplicationPad3d SELU SiLU Sigmoid Softmax Softmax2d Softmin
    Softplus Softshrink Softsign SyncBatchNorm Tanh Tanhshrink Threshold TransformerEncoderLayer
    Unflatten Unfold Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d
    """
)

# module to import -> names that a call_function node may use from it. An object that several
# tables have gets its name from the first of them.
FUNCTIONS: dict[str, frozenset[str]] = {
    "operator": OPERATOR,
    "builtins": BUILTINS,
    "math": MATH,
    "torch": TORCH,
    "torch.nn.functional": FUNCTIONAL,
    "torchvision.ops": _words(
        """
        batched_nms box_area box_convert box_iou clip_boxes_to_image deform_conv2d drop_block2d
        drop_block3d nms ps_roi_align ps_roi_pool remove_small_boxes roi_align roi_pool
        stochastic_depth
        """
    ),
    "torchvision.models.swin_transformer": frozenset(
        ("_get_relative_position_bias", "_patch_merging_pad", "shifted_window_attention")
    ),
}

# module to import -> classes that a module record may name.
CLASSES: dict[str, frozenset[str]] = {
    "torch.nn": MODULES,
    "torch.nn.modules.linear": frozenset(("NonDynamicallyQuantizableLinear",)),
    "torchvision.ops": _words(
        """
        DeformConv2d DropBlock2d DropBlock3d FrozenBatchNorm2d PSRoIAlign PSRoIPool Permute RoIAlign
        RoIPool StochasticDepth
        """
    ),
    "torchvision.models.convnext": frozenset(("LayerNorm2d",)),
}
