//! A decoder at random weights.

use candle_core::{DType, Device};
use pistar::llm::internals::tensor::ops::Activation;
use pistar::llm::model::architecture::{Architecture, Norm, Positions};
use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::sequence::Sequence;

/// A Llama of a few thousand parameters.
pub fn tiny() -> Architecture {
    Architecture {
        vocabulary: 11,
        width: 16,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        intermediate: 24,
        context: 32,
        norm: Norm::Rms { offset: 0.0 },
        epsilon: 1e-5,
        activation: Activation::Silu,
        gated: true,
        positions: Positions::Rotary {
            frequencies: vec![1.0, 0.01],
            factor: 1.0,
        },
        window: None,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        embedding_scale: 1.0,
        tied: false,
    }
}

#[test]
fn neighbours_in_a_pack_change_nothing() {
    let model = Decoder::random(tiny(), 0.3, 1, DType::F64, &Device::Cpu).unwrap();
    let a = Sequence::new(vec![1, 5, 7, 3], 1).unwrap();
    let b = Sequence::new(vec![1, 2, 9, 4, 8, 0], 3).unwrap();
    let together = model.sums(&[&a, &b, &a]).unwrap();
    let alone = model.sums(&[&a]).unwrap();
    assert!((together[0] - alone[0]).abs() < 1e-12);
    assert!((together[2] - alone[0]).abs() < 1e-12);
    assert!(together[0] < 0.0 && together[1] < 0.0);
}
