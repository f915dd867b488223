//! Bytes that nobody wrote: whatever a segment says, it is read to an end, without a panic.

use super::*;
use crate::random::Random;

fn written(random: &mut Random) -> Sections {
    let mut builder = Builder::new();
    for row in 0..800 {
        for _ in 0..random.below(25) {
            let word = random.below(40).min(random.below(300));
            builder.token(format!("w{word}").as_bytes());
        }
        builder.end_row(row * 3).unwrap();
    }
    builder.finish().unwrap()
}

fn mutated(sections: &Sections, random: &mut Random) -> [Vec<u8>; 8] {
    let mut bytes = sections.refs().map(<[u8]>::to_vec);
    for _ in 0..1 + random.below(4) {
        let section = &mut bytes[random.below(8)];
        if section.is_empty() {
            continue;
        }
        let at = random.below(section.len());
        match random.below(6) {
            0 => section.truncate(at),
            1 => section[at] = 0xff,
            2 => section.insert(at, random.below(256) as u8),
            3 => {
                let end = (at + 1 + random.below(12)).min(section.len());
                (at..end).for_each(|place| section[place] = random.below(256) as u8);
            }
            4 => {
                let from = random.below(section.len());
                let len = random.below(24).min(section.len() - at.max(from));
                section.copy_within(from..from + len, at);
            }
            _ => section[at] ^= 1 << random.below(8),
        }
    }
    bytes
}

fn queries() -> Vec<Query> {
    let phrase =
        |words: &[&str], prefix| Phrase { tokens: words.iter().map(|word| word.as_bytes().to_vec()).collect(), prefix };
    let query = |operator, phrases: Vec<Phrase>| Query { operator, phrases };
    let words = || ["w1", "w2", "w39", "w250", "none"].iter().map(|word| phrase(&[word], false)).collect::<Vec<_>>();
    vec![
        query(Operator::Or, words()),
        query(Operator::And, words()[..2].to_vec()),
        query(Operator::And, vec![phrase(&["w1", "w2"], false), phrase(&["w3", "w1"], true)]),
        query(Operator::Or, vec![phrase(&["w"], true), phrase(&["w2"], true)]),
    ]
}

/// Everything that reads a segment.
fn read_all(bytes: [&[u8]; 8]) -> usize {
    let Ok(segment) = Segment::open(bytes, &trusted) else { return 1 };
    let dead = Dead::none().with([(3, 4), (700, 2), (5000, 1)]);
    let parts = [Part::Sealed { segment: &segment, dead: &dead }];
    let mut refused = 0;
    for query in queries() {
        refused += usize::from(search(&parts, &query, 10, None, &mut || true).is_err());
    }
    refused + usize::from(merge(&[(segment, &dead)], &mut || true).is_err())
}

#[test]
fn a_damaged_segment_is_read_to_an_end() {
    let mut random = Random::new(1);
    let sections = written(&mut random);
    assert_eq!(read_all(sections.refs()), 0);
    let mut refused = 0;
    for _ in 0..2000 {
        let bytes = mutated(&sections, &mut random);
        refused += read_all(bytes.each_ref().map(Vec::as_slice));
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn a_cut_section_is_refused_or_read_to_an_end() {
    let sections = written(&mut Random::new(7));
    for section in 0..8 {
        for part in 0..40 {
            let mut bytes = sections.refs();
            bytes[section] = &bytes[section][..bytes[section].len() * part / 40];
            assert!(read_all(bytes) > 0 || matches!(Section::ALL[section], Section::TermIndex), "{section} {part}");
        }
    }
}
