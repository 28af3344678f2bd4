//! One block of each tensor type, from bytes to numbers.

#[inline(always)]
pub(super) fn f32(block: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = f32::from_le_bytes(*block);
}

#[inline(always)]
pub(super) fn f16(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = half_to_f32(*block);
}

#[inline(always)]
pub(super) fn bf16(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*block)) << 16);
}

#[inline(always)]
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half_to_f32([block[0], block[1]]);
    for index in 0..16 {
        let byte = block[2 + index];
        out[index] = (i32::from(byte & 15) - 8) as f32 * scale;
        out[16 + index] = (i32::from(byte >> 4) - 8) as f32 * scale;
    }
}

#[inline(always)]
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let scale = half_to_f32([block[0], block[1]]);
    let minimum = half_to_f32([block[2], block[3]]);
    for index in 0..16 {
        let byte = block[4 + index];
        out[index] = i32::from(byte & 15) as f32 * scale + minimum;
        out[16 + index] = i32::from(byte >> 4) as f32 * scale + minimum;
    }
}

#[inline(always)]
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let scale = half_to_f32([block[0], block[1]]);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for index in 0..16 {
        let byte = block[6 + index];
        let low_half = i32::from(byte & 15) | fifth_bit(high, index);
        let high_half = i32::from(byte >> 4) | fifth_bit(high, index + 16);
        out[index] = (low_half - 16) as f32 * scale;
        out[16 + index] = (high_half - 16) as f32 * scale;
    }
}

#[inline(always)]
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let scale = half_to_f32([block[0], block[1]]);
    let minimum = half_to_f32([block[2], block[3]]);
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for index in 0..16 {
        let byte = block[8 + index];
        let low_half = i32::from(byte & 15) | fifth_bit(high, index);
        let high_half = i32::from(byte >> 4) | fifth_bit(high, index + 16);
        out[index] = low_half as f32 * scale + minimum;
        out[16 + index] = high_half as f32 * scale + minimum;
    }
}

#[inline(always)]
fn fifth_bit(bits: u32, index: usize) -> i32 {
    (((bits >> index) & 1) << 4) as i32
}

#[inline(always)]
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half_to_f32([block[0], block[1]]);
    for index in 0..32 {
        out[index] = f32::from(block[2 + index].cast_signed()) * scale;
    }
}

#[inline(always)]
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (groups, _) = out.as_chunks_mut::<64>();
    for (group, values) in groups.iter_mut().enumerate() {
        let (scale_low, minimum_low) = scale_and_minimum(block, 2 * group);
        let (scale_high, minimum_high) = scale_and_minimum(block, 2 * group + 1);
        for index in 0..32 {
            let byte = block[16 + 32 * group + index];
            values[index] = i32::from(byte & 15) as f32 * scale_low - minimum_low;
            values[32 + index] = i32::from(byte >> 4) as f32 * scale_high - minimum_high;
        }
    }
}

#[inline(always)]
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (groups, _) = out.as_chunks_mut::<64>();
    for (group, values) in groups.iter_mut().enumerate() {
        let (scale_low, minimum_low) = scale_and_minimum(block, 2 * group);
        let (scale_high, minimum_high) = scale_and_minimum(block, 2 * group + 1);
        for index in 0..32 {
            let high = u32::from(block[16 + index]);
            let byte = block[48 + 32 * group + index];
            let low_half = i32::from(byte & 15) | fifth_bit(high, 2 * group);
            let high_half = i32::from(byte >> 4) | fifth_bit(high, 2 * group + 1);
            values[index] = low_half as f32 * scale_low - minimum_low;
            values[32 + index] = high_half as f32 * scale_high - minimum_high;
        }
    }
}

/// The scale and the minimum of the `group`-th 32 numbers of a Q4_K or Q5_K block: two half floats, and 6 bits
/// each for 8 scales and 8 minima, packed into the 12 bytes behind them.
#[inline(always)]
pub(crate) fn scale_and_minimum(block: &[u8], group: usize) -> (f32, f32) {
    let packed = &block[4..16];
    let (scale, minimum) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        (
            (low & 15) | (packed[group - 4] >> 6 << 4),
            (low >> 4) | (packed[group] >> 6 << 4),
        )
    };
    let scale_unit = half_to_f32([block[0], block[1]]);
    let minimum_unit = half_to_f32([block[2], block[3]]);
    (
        scale_unit * f32::from(scale),
        minimum_unit * f32::from(minimum),
    )
}

#[inline(always)]
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let unit = half_to_f32([block[208], block[209]]);
    let codes = six_bit_codes(block);
    let (groups, _) = out.as_chunks_mut::<16>();
    for (group, values) in groups.iter_mut().enumerate() {
        let scale = unit * f32::from(block[192 + group].cast_signed());
        for (value, code) in values.iter_mut().zip(&codes[16 * group..16 * group + 16]) {
            *value = (i32::from(*code) - 32) as f32 * scale;
        }
    }
}

/// The integers of a Q6_K block plus 32, in the order of the numbers; 16 of them share a scale.
#[inline(always)]
pub(crate) fn six_bit_codes(block: &[u8; 210]) -> [u8; 256] {
    let mut codes = [0; 256];
    let (parts, _) = codes.as_chunks_mut::<128>();
    for (part, codes) in parts.iter_mut().enumerate() {
        let low = &block[64 * part..64 * part + 64];
        let high = &block[128 + 32 * part..128 + 32 * part + 32];
        for index in 0..32 {
            let bits = high[index];
            codes[index] = six_bits(low[index] & 15, bits);
            codes[32 + index] = six_bits(low[32 + index] & 15, bits >> 2);
            codes[64 + index] = six_bits(low[index] >> 4, bits >> 4);
            codes[96 + index] = six_bits(low[32 + index] >> 4, bits >> 6);
        }
    }
    codes
}

#[inline(always)]
const fn six_bits(low: u8, high: u8) -> u8 {
    low | ((high & 3) << 4)
}

/// A half float by shifting it into a float and correcting the exponent, subnormals included. Infinities and NaNs
/// become large numbers; in weights they are faults anyway.
#[inline(always)]
pub(super) fn half_to_f32(bytes: [u8; 2]) -> f32 {
    const EXPONENT_CORRECTION: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u16::from_le_bytes(bytes);
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * EXPONENT_CORRECTION;
    f32::from_bits(magnitude.to_bits() | (u32::from(bits & 0x8000) << 16))
}
