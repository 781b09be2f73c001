//! In which partition of `touchline.events` an account is: where the Java client's default partitioner puts its key.
//!
//! Not left to librdkafka, which would use partitions that are added to the topic from that moment on: the accounts whose
//! partition changed would have two half lives.

/// The partition of a key, of so many, which are at least one. For whoever writes into that topic.
pub fn partition(key: &[u8], partitions: u32) -> i32 {
    // Without the sign, so it fits.
    ((murmur2(key) & 0x7fff_ffff) % partitions.max(1)).cast_signed()
}

/// `org.apache.kafka.common.utils.Utils.murmur2`: Austin Appleby's MurmurHash2 with Kafka's seed.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // Kafka's arithmetic is that of 32 bits; no key comes near.
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let word = u32::from_le_bytes(*word).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ word >> R).wrapping_mul(M);
    }
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}
