//! The instructions that the processor has beyond what every processor of its architecture has.

/// Instructions to compute with; a higher level has those of the lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// What every processor of the target has.
    Portable,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 and dot products of bytes in 256 bits.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 (F, BW, DQ, VL) and dot products of bytes in 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON and dot products of bytes.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Level {
    /// The best level that this processor has.
    pub(crate) fn detect() -> Self {
        Self::supported().last().copied().unwrap_or(Self::Portable)
    }

    /// All levels that this processor has, the best one last.
    pub(crate) fn supported() -> Vec<Self> {
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64")),
            expect(unused_mut, reason = "other architectures have one level")
        )]
        let mut levels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let has_avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            let wider = [
                (has_avx2, Self::Avx2),
                (
                    has_avx2 && is_x86_feature_detected!("avxvnni"),
                    Self::AvxVnni,
                ),
                (has_avx2 && has_avx512, Self::Avx512),
            ];
            levels.extend(
                wider
                    .iter()
                    .filter(|(has, _)| *has)
                    .map(|(_, level)| *level),
            );
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon")
            && std::arch::is_aarch64_feature_detected!("dotprod")
        {
            levels.push(Self::Neon);
        }
        levels
    }
}
