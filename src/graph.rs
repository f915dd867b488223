//! Walks over relations, pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use crate::error::Result;
use crate::model::Related;

/// How far a walk goes.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    pub depth: usize,
    pub min_strength: f64,
}

/// Where a walk begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    pub id: String,
    /// What ways from here are worth beside others that are as strong: those of a lower class are worth more.
    pub class: usize,
}

/// A relation as a walk sees it: from an id that the walk has come to, to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub from: String,
    pub to: String,
    pub strength: f64,
}

/// What a walk came to.
pub struct Reach {
    nodes: Vec<Node>,
    labels: Vec<Label>,
}

struct Node {
    id: String,
    seed: bool,
    /// Its labels; none beats one that is as short or shorter.
    labels: Vec<usize>,
    /// Those of the level that found it last, among all.
    here: Range<usize>,
}

/// One way to a node.
#[derive(Clone, Copy)]
struct Label {
    node: usize,
    /// The label that it goes on from; of a seed, itself.
    before: usize,
    class: usize,
    strength: f64,
    depth: usize,
}

impl Label {
    /// As strong at least, and from as good a seed: so is whatever goes on from here.
    fn beats(&self, other: &Self) -> bool {
        self.class <= other.class && self.strength >= other.strength
    }
}

/// A way to an id that is no seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Way<'r> {
    pub id: &'r str,
    /// Of the seed.
    pub class: usize,
    /// The product of the strengths on the way.
    pub strength: f64,
    /// Relations on the way.
    pub depth: usize,
    label: usize,
}

/// Walks from some ids; `steps` gives the relations of some ids.
///
/// A way is as strong as the product of its relations. Level by level the walk goes on from those ids alone to which it
/// found a way that none before beats: no relation is stronger than 1, so a way in circles is never among them, and the
/// work grows with the relations in reach, not with the number of ways through them. Of several classes it follows those
/// only that no better one beats.
pub fn walk(seeds: &[Seed], walk: Walk, mut steps: impl FnMut(&[String]) -> Result<Vec<Step>>) -> Result<Reach> {
    let mut reach = Reach { nodes: Vec::new(), labels: Vec::new() };
    let mut places: HashMap<String, usize> = HashMap::new();
    for seed in seeds {
        let node = reach.node(&mut places, seed.id.clone());
        reach.nodes[node].seed = true;
        let before = reach.labels.len();
        reach.keep(Label { node, before, class: seed.class, strength: 1.0, depth: 0 }, 0);
    }
    let mut level = 0;
    for depth in 1..=walk.depth {
        let mut from: Vec<String> = Vec::new();
        for (place, label) in reach.labels.iter().enumerate().skip(level) {
            let node = &reach.nodes[label.node];
            if node.here.start == place {
                from.push(node.id.clone());
            }
        }
        if from.is_empty() {
            break;
        }
        from.sort_unstable();
        let mut found: Vec<Label> = Vec::new();
        for step in steps(&from)? {
            let Some(&node) = places.get(&step.from) else { continue };
            let mut to = None;
            for before in reach.nodes[node].here.clone() {
                let Label { class, strength, .. } = reach.labels[before];
                let strength = strength * step.strength;
                if strength >= walk.min_strength {
                    let node = *to.get_or_insert_with(|| reach.node(&mut places, step.to.clone()));
                    let label = Label { node, before, class, strength, depth };
                    if !reach.beaten(&label) {
                        found.push(label);
                    }
                }
            }
        }
        // Of ways that are as good, the one over the least id.
        let over = |label: &Label| &reach.nodes[reach.labels[label.before].node].id;
        found.sort_by(|a, b| {
            let best = (a.node, a.class).cmp(&(b.node, b.class)).then(b.strength.total_cmp(&a.strength));
            best.then_with(|| over(a).cmp(over(b)))
        });
        level = reach.labels.len();
        for label in found {
            reach.keep(label, level);
        }
    }
    Ok(reach)
}

/// What can be reached from `ids`, each id with its strongest way: the strongest first, then the nearest, then by id.
pub fn related(
    ids: &[String],
    walk: Walk,
    limit: usize,
    steps: impl FnMut(&[String]) -> Result<Vec<Step>>,
) -> Result<Vec<Related>> {
    let seeds: Vec<Seed> = ids.iter().map(|id| Seed { id: id.clone(), class: 0 }).collect();
    let reach = self::walk(&seeds, walk, steps)?;
    let strongest = |ways| Iterator::max_by(ways, |a: &Way<'_>, b: &Way<'_>| a.strength.total_cmp(&b.strength));
    let mut ways: Vec<Way<'_>> = reach.ways().filter_map(strongest).collect();
    ways.sort_unstable_by(|a, b| b.strength.total_cmp(&a.strength).then(a.depth.cmp(&b.depth)).then(a.id.cmp(b.id)));
    ways.truncate(limit);
    let related = |way: Way<'_>| Related {
        id: way.id.to_owned(),
        path: reach.path(&way),
        strength: way.strength,
        depth: way.depth,
    };
    Ok(ways.into_iter().map(related).collect())
}

impl Reach {
    /// The ways to each id but the seeds. One is there unless another is as short, as strong and from as good a seed.
    pub fn ways(&self) -> impl Iterator<Item = impl Iterator<Item = Way<'_>>> {
        self.nodes.iter().filter(|node| !node.seed).map(|node| {
            node.labels.iter().map(|&label| {
                let Label { class, strength, depth, .. } = self.labels[label];
                Way { id: &node.id, class, strength, depth, label }
            })
        })
    }

    /// The ids on a way, from the one that it began with to its own.
    pub fn path(&self, way: &Way<'_>) -> Vec<String> {
        let mut label = &self.labels[way.label];
        let mut path = vec![way.id.to_owned()];
        while label.depth > 0 {
            label = &self.labels[label.before];
            path.push(self.nodes[label.node].id.clone());
        }
        path.reverse();
        path
    }

    fn node(&mut self, places: &mut HashMap<String, usize>, id: String) -> usize {
        match places.entry(id) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(place) => {
                self.nodes.push(Node { id: place.key().clone(), seed: false, labels: Vec::new(), here: 0..0 });
                *place.insert(self.nodes.len() - 1)
            }
        }
    }

    fn beaten(&self, label: &Label) -> bool {
        self.nodes[label.node].labels.iter().any(|&known| self.labels[known].beats(label))
    }

    /// Takes a label into the level that begins at `level`, unless another beats it. Those of one node come together.
    fn keep(&mut self, label: Label, level: usize) {
        if self.beaten(&label) {
            return;
        }
        let place = self.labels.len();
        self.labels.push(label);
        let Node { labels, here, .. } = &mut self.nodes[label.node];
        labels.push(place);
        let start = if here.end == place && here.start >= level { here.start } else { place };
        *here = start..place + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [(&str, &str, f64); 7] = [
        ("a", "b", 0.5),
        ("a", "c", 0.9),
        ("c", "b", 0.9),
        ("b", "a", 1.0),
        ("b", "d", 1.0),
        ("d", "e", 0.1),
        ("c", "c", 1.0),
    ];

    fn reach(ids: &[&str], depth: usize, min_strength: f64, limit: usize) -> Vec<(String, f64)> {
        let ids: Vec<String> = ids.iter().map(|&id| id.to_owned()).collect();
        let steps = |from: &[String]| {
            let edges = EDGES.iter().filter(|(source, _, _)| from.iter().any(|id| id == source));
            let step = |&(from, to, strength): &(&str, &str, f64)| Step { from: from.into(), to: to.into(), strength };
            Ok(edges.map(step).collect())
        };
        let found = related(&ids, Walk { depth, min_strength }, limit, steps).unwrap();
        found.into_iter().map(|r| (r.path.join("-"), (r.strength * 1e6).round() / 1e6)).collect()
    }

    fn ways(found: &[(&str, f64)]) -> Vec<(String, f64)> {
        found.iter().map(|&(path, strength)| (path.to_owned(), strength)).collect()
    }

    #[test]
    fn strengths_decay_and_the_strongest_way_counts() {
        assert_eq!(reach(&["a"], 1, 0.0, 9), ways(&[("a-c", 0.9), ("a-b", 0.5)]));
        assert_eq!(reach(&["a"], 2, 0.0, 9), ways(&[("a-c", 0.9), ("a-c-b", 0.81), ("a-b-d", 0.5)]));
        let far = ways(&[("a-c", 0.9), ("a-c-b", 0.81), ("a-c-b-d", 0.81), ("a-c-b-d-e", 0.081)]);
        assert_eq!(reach(&["a"], 9, 0.0, 9), far);
    }

    #[test]
    fn walks_are_bounded() {
        assert_eq!(reach(&["a"], 9, 0.6, 9).len(), 3);
        assert_eq!(reach(&["a"], 9, 0.0, 2), ways(&[("a-c", 0.9), ("a-c-b", 0.81)]));
        assert!(reach(&["a"], 0, 0.0, 9).is_empty() && reach(&[], 9, 0.0, 9).is_empty());
    }

    /// The ways of a walk with these classes: path, class, strength.
    fn ways_of(seeds: &[(&str, usize)], depth: usize, min_strength: f64) -> Vec<(String, usize, f64)> {
        let seeds: Vec<Seed> = seeds.iter().map(|&(id, class)| Seed { id: id.into(), class }).collect();
        let edges =
            [("a", "x", 0.4), ("b", "x", 0.8), ("c", "x", 0.8), ("x", "y", 0.5), ("b", "y", 0.4), ("a", "b", 0.9)];
        let steps = |from: &[String]| {
            let edges = edges.iter().filter(|(source, _, _)| from.iter().any(|id| id == source));
            let step = |&(from, to, strength): &(&str, &str, f64)| Step { from: from.into(), to: to.into(), strength };
            Ok(edges.map(step).collect())
        };
        let reach = walk(&seeds, Walk { depth, min_strength }, steps).unwrap();
        let told = |way: Way<'_>| (reach.path(&way).join("-"), way.class, (way.strength * 1e6).round() / 1e6);
        let mut found: Vec<_> = reach.ways().flatten().map(told).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    #[test]
    fn of_two_classes_the_worse_needs_a_stronger_way() {
        let way = |path: &str, class, strength| (path.to_owned(), class, strength);
        // What a finds through b, which is a seed itself, beats nothing that b finds, but is worth more.
        let both = [way("a-b-x", 0, 0.72), way("b-x", 1, 0.8)];
        assert_eq!(ways_of(&[("a", 0), ("b", 1)], 2, 0.5), both);
        assert_eq!(ways_of(&[("a", 1), ("b", 0)], 1, 0.5), [way("b-x", 0, 0.8)]);
        // The same strength of a worse class wins nothing; of one class the least id does.
        assert_eq!(ways_of(&[("b", 1), ("c", 0)], 1, 0.5), [way("c-x", 0, 0.8)]);
        assert_eq!(ways_of(&[("c", 0), ("b", 0)], 1, 0.5), [way("b-x", 0, 0.8)]);
        // A seed that is given twice is of its better class.
        for twice in [[("b", 2), ("b", 1)], [("b", 1), ("b", 2)]] {
            assert_eq!(ways_of(&twice, 1, 0.5), [way("b-x", 1, 0.8)]);
        }
    }

    #[test]
    fn a_better_class_that_is_too_weak_to_go_on_hides_no_other() {
        let way = |path: &str, class, strength| (path.to_owned(), class, strength);
        let found = ways_of(&[("a", 0), ("c", 1)], 2, 0.37);
        let to_x = [way("a-b-x", 0, 0.72), way("a-x", 0, 0.4), way("c-x", 1, 0.8)];
        assert_eq!(found[1..4], to_x);
        assert_eq!([&found[0], &found[4]], [&way("a-b", 0, 0.9), &way("c-x-y", 1, 0.4)]);
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn where_it_began_is_not_what_it_found() {
        assert_eq!(reach(&["a", "b", "c"], 3, 0.0, 9), ways(&[("b-d", 1.0), ("b-d-e", 0.1)]));
        assert!(reach(&["e"], 3, 0.0, 9).is_empty());
    }
}
