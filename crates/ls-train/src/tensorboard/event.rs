//! Records of an event file: TFRecords, each with an `Event` in protobuf's encoding.
//!
//! Source: `tensorboard/compat/proto/{event,summary}.proto` and
//! `tensorboard/summary/writer/record_writer.py` of TensorBoard.

/// What an event holds.
pub(super) enum Content<'a> {
    /// The version of the format, with which every file begins.
    Version,
    /// The beginning of a process: what was told before of this step and later ones is void.
    Start,
    /// Values by their tags.
    Scalars(&'a [(String, f64)]),
}

/// A record: the length of the event, a checksum of the length, the event, and its checksum.
pub(super) fn record(wall_time: f64, step: u64, content: &Content<'_>) -> Vec<u8> {
    let event = event(wall_time, step, content);
    let length = (event.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(event.len() + 16);
    record.extend(length);
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(&event);
    record.extend(masked(crc32c(&event)).to_le_bytes());
    record
}

/// The message `Event`.
fn event(wall_time: f64, step: u64, content: &Content<'_>) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, Wire::Fixed64);
    event.extend(wall_time.to_le_bytes());
    if step > 0 {
        key(&mut event, 2, Wire::Varint);
        varint(&mut event, step);
    }
    match content {
        Content::Version => bytes(&mut event, 3, b"brain.Event:2"),
        Content::Scalars(scalars) => {
            let mut summary = Vec::new();
            for (tag, value) in *scalars {
                let mut of_tag = Vec::new();
                bytes(&mut of_tag, 1, tag.as_bytes());
                key(&mut of_tag, 2, Wire::Fixed32);
                of_tag.extend((*value as f32).to_le_bytes());
                bytes(&mut summary, 1, &of_tag);
            }
            bytes(&mut event, 5, &summary);
        }
        // `SessionLog { status: START }`
        Content::Start => bytes(&mut event, 7, &[1 << 3, 1]),
    }
    event
}

/// How a field is encoded.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

fn key(out: &mut Vec<u8>, field: u8, wire: Wire) {
    out.push((field << 3) | wire as u8);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    key(out, field, Wire::Bytes);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// CRC-32 by Castagnoli's polynomial, reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let at = (crc ^ u32::from(*byte)) & 0xFF;
        TABLE[at as usize] ^ (crc >> 8)
    };
    !bytes.iter().fold(!0, step)
}

/// The remainders of all bytes.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            let odd = crc & 1 == 1;
            crc >>= 1;
            if odd {
                crc ^= 0x82F6_3B78;
            }
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

/// A checksum as TFRecords have it: one over data that hold checksums would otherwise be weak.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b""), 0);
    }

    /// Of `tensorboard.summary.writer.record_writer.RecordWriter` and `Event.SerializeToString`,
    /// tensorboard 2.21.0.
    #[test]
    fn records_are_those_of_tensorboard() {
        let hex = |time: f64, step: u64, content: Content<'_>| -> String {
            let record = record(time, step, &content);
            record.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let version = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a\
                       28646c";
        assert_eq!(hex(1.5, 0, Content::Version), version);
        let start = "100000000000000095fbfe1809000000000000024010ac023a020801f166178e";
        assert_eq!(hex(2.25, 300, Content::Start), start);
        let scalars = [
            ("train/loss".to_owned(), f32::from_bits(0x3F31_6F00).into()),
            ("eval/é".to_owned(), -2.0),
        ];
        let expected = "300000000000000095f5d05f09000008f29ed2d94110072a230a110a0a747261696e2f6c6f\
                        737315006f313f0a0e0a076576616c2fc3a915000000c01d38a18f";
        assert_eq!(
            hex(1_732_934_600.125, 7, Content::Scalars(&scalars)),
            expected
        );
    }
}
