"""The smallest variant of every timm module family (98 of them), at the smallest image that it takes.

Found once with timm 1.0.31, by building every registered variant on the meta device and counting its parameters, and
by running the smallest one there, in train and eval mode, on images of 64, 96, 128, 160, 192, 224 and its own default.
"""

from functools import partial

from torch import nn

from tools.zoo.row import Row, images

TABLE = """
    beit                         beit_base_patch16_224                 224
    byoanet                      halonet_h1                            256
    byobnet                      test_byobnet                           64
    cait                         cait_xxs24_224                        224
    coat                         coat_tiny                             224
    convit                       convit_tiny                           224
    convmixer                    convmixer_768_32                       64
    convnext                     test_convnext                          64
    cpubone                      cpubone_nano                           64
    crossvit                     crossvit_tiny_240                      64
    csatv2                       csatv2                                 64
    cspnet                       cs3darknet_focus_s                     64
    cspnext                      cspnext_tiny                           64
    davit                        davit_tiny                             64
    deepseek_vit                 deepseek_vit_412m                     224   4
    deit                         deit_tiny_patch16_224                 224
    densenet                     densenet121                            64
    dla                          dla46x_c                               64
    dpn                          dpn48b                                 64
    edgenext                     edgenext_xx_small                      64
    efficientformer              efficientformer_l1                    224
    efficientformer_v2           efficientformerv2_s0                  224
    efficientnet                 test_efficientnet                      64
    efficientvim                 efficientvim_m1                        64
    efficientvit_mit             efficientvit_b0                        64
    efficientvit_msra            efficientvit_m0                        64
    eva                          vit_tiny_patch16_dinov3_qkvb           64
    fasternet                    fasternet_t0                           64
    fastvit                      fastvit_t8                             64
    focalnet                     focalnet_tiny_srf                      64
    gcvit                        gcvit_xxtiny                          224
    gemma4_vit                   gemma4_vit_167m                        64
    ghostnet                     ghostnet_050                           64
    hardcorenas                  hardcorenas_b                          64
    hgnet                        hgnetv2_b0                             64
    hiera                        hiera_tiny_224                        224
    hieradet_sam2                sam2_hiera_tiny                        64
    hrnet                        hrnet_w18_small                        64
    iformer                      iformer_t                              64
    inception_next               inception_next_atto                    64
    inception_resnet_v2          ens_adv_inception_resnet_v2            96
    inception_v3                 adv_inception_v3                       96
    inception_v4                 inception_v4                           96
    lcnetv2                      lcnetv2_small                          64
    levit                        levit_128s                            224
    lowformer                    lowformer_b0                           64
    mambaout                     test_mambaout                          64
    maxxvit                      test_coatnet                          160
    metaformer                   poolformerv2_s12                       64
    mlp_mixer                    gmlp_ti16_224                         224
    mobilenetv3                  mobilenetv3_small_050                  64
    mobilenetv5                  mobilenetv5_base                       64
    mobilevit                    mobilevit_xxs                          64
    mvitv2                       mvitv2_tiny                            64
    naflexvit                    naflexvit_base_patch16_parfac_gap      64
    nasnet                       nasnetalarge                           64
    nest                         jx_nest_tiny                          224
    nextvit                      nextvit_small                          64
    nfnet                        test_nfnet                             64
    pit                          pit_ti_224                            224
    pnasnet                      pnasnet5large                          64
    pvt_v2                       pvt_v2_b0                              64
    qwen3_vit                    qwen3_vit_88m                          64
    rdnet                        rdnet_tiny                             64
    regnet                       regnetx_002                            64
    repghost                     repghostnet_050                        64
    repvit                       repvit_m1                              64
    res2net                      res2next50                             64
    resnest                      resnest14d                             64
    resnet                       test_resnet                            64
    resnetv2                     resnetv2_18                            64
    rexnet                       rexnet_100                             64
    selecsls                     selecsls42                             64
    senet                        legacy_seresnet18                      64
    sequencer                    sequencer2d_s                          64
    shvit                        shvit_s1                               64
    sknet                        skresnet18                             64
    starnet                      starnet_s050                           64
    swiftformer                  swiftformer_xs                         64
    swin_transformer             swin_tiny_patch4_window7_224          224
    swin_transformer_v2          swinv2_tiny_window16_256              256
    swin_transformer_v2_cr       swinv2_cr_tiny_224                    224
    tiny_vit                     tiny_vit_5m_224                        64
    tnt                          tnt_s_legacy_patch16_224              224
    tresnet                      tresnet_m                              64
    twins                        twins_svt_small                        64
    vgg                          vgg11                                  64
    visformer                    visformer_tiny                        224
    vision_transformer           test_vit                               64
    vision_transformer_hybrid    vit_tiny_r_s16_p8_224                 224
    vision_transformer_relpos    test_vit_relpos                       160
    vision_transformer_sam       samvit_base_patch16_224                64
    vitamin                      vitamin_small_224                     224
    volo                         volo_d1_224                           224
    vovnet                       ese_vovnet19b_slim_dw                  64
    xception                     legacy_xception                        64
    xception_aligned             xception41p                            64
    xcit                         xcit_nano_12_p8_224                    64
"""
"""Family, variant, side of the images; a number of blocks where the whole does not grow in 24 GiB of memory."""


def _build(name: str, **options: int) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(name, **options)
    return model


def _row(family: str, name: str, side: str, depth: str = "") -> Row:
    if not depth:
        return Row(name, family, partial(_build, name), images(int(side)))
    factory = partial(_build, name, depth=int(depth))
    return Row(name, family, factory, images(int(side)), note=f"{depth} blocks")


ROWS: tuple[Row, ...] = tuple(_row(*line.split()) for line in TABLE.strip().splitlines())
