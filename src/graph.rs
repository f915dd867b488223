//! Walks over relations, pure.

use std::cmp::Ordering;
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
#[derive(Debug, Clone, PartialEq)]
pub struct Seed {
    pub id: String,
    pub score: f64,
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
    /// Of the seed.
    score: f64,
    strength: f64,
    depth: usize,
    /// What it is worth, and would be without any strength.
    worth: [f64; 2],
}

impl Label {
    /// Nothing that goes on from the other is worth more than what goes on from here likewise.
    fn beats(&self, other: &Self, walk: Walk) -> bool {
        /// How much more a worth must be to stay more after products that are rounded.
        const CLEARLY: f64 = 1e-9;
        if self.score >= other.score && self.strength >= other.strength {
            return true;
        }
        // What is worth more for any strength between none and that of now: it is so at both ends.
        let ([worth, least], [others, others_least]) = (self.worth, other.worth);
        let more = worth > others + CLEARLY * others.abs() && least >= others_least;
        more && (walk.min_strength <= 0.0 || self.strength >= other.strength)
    }
}

/// A way to an id that is no seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Way<'r> {
    pub id: &'r str,
    /// The product of the strengths on the way.
    pub strength: f64,
    /// Relations on the way.
    pub depth: usize,
    pub worth: f64,
    label: usize,
}

/// Walks from some ids; `steps` gives the relations of some ids.
///
/// A way is as strong as the product of its relations. What it is `worth` grows with the score of its seed and with its
/// strength, and evenly with that. Level by level the walk goes on from those ids alone to which it found a way that none
/// before beats: no relation is stronger than 1, so a way in circles is never among them, and the work grows with the
/// relations in reach, not with the number of ways through them.
pub fn walk(
    seeds: &[Seed],
    walk: Walk,
    worth: impl Fn(f64, f64) -> f64,
    mut steps: impl FnMut(&[String]) -> Result<Vec<Step>>,
) -> Result<Reach> {
    let worth = |score, strength| [worth(score, strength), worth(score, 0.0)];
    let mut reach = Reach { nodes: Vec::new(), labels: Vec::new() };
    let mut places: HashMap<String, usize> = HashMap::new();
    for Seed { id, score } in seeds {
        let node = reach.node(&mut places, id.clone());
        reach.nodes[node].seed = true;
        let (score, before) = (*score, reach.labels.len());
        reach.keep(Label { node, before, score, strength: 1.0, depth: 0, worth: worth(score, 1.0) }, walk, 0);
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
                let Label { score, strength, .. } = reach.labels[before];
                let strength = strength * step.strength;
                if strength >= walk.min_strength {
                    let node = *to.get_or_insert_with(|| reach.node(&mut places, step.to.clone()));
                    let label = Label { node, before, score, strength, depth, worth: worth(score, strength) };
                    if !reach.beaten(&label, walk) {
                        found.push(label);
                    }
                }
            }
        }
        // Of ways that are alike, the one over the least id.
        let over = |label: &Label| &reach.nodes[reach.labels[label.before].node].id;
        found.sort_by(|a, b| {
            let best = b.worth[0].total_cmp(&a.worth[0]).then(b.strength.total_cmp(&a.strength));
            a.node.cmp(&b.node).then(best).then(b.score.total_cmp(&a.score)).then_with(|| over(a).cmp(over(b)))
        });
        level = reach.labels.len();
        for label in found {
            reach.keep(label, walk, level);
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
    let seeds: Vec<Seed> = ids.iter().map(|id| Seed { id: id.clone(), score: 0.0 }).collect();
    let reach = self::walk(&seeds, walk, |_, strength| strength, steps)?;
    let mut ways = reach.best();
    ways.truncate(limit);
    let related = |way: Way<'_>| Related {
        id: way.id.to_owned(),
        path: reach.path(&way),
        strength: way.strength,
        depth: way.depth,
    };
    Ok(ways.into_iter().map(related).collect())
}

impl Way<'_> {
    /// What is worth most comes first, then the shortest.
    pub fn order(&self, other: &Self) -> Ordering {
        other.worth.total_cmp(&self.worth).then(self.depth.cmp(&other.depth))
    }
}

impl Reach {
    /// The first way in their order to each id but the seeds, in their order and then in that of the ids.
    pub fn best(&self) -> Vec<Way<'_>> {
        let mut ways: Vec<Way<'_>> = Vec::new();
        for node in self.nodes.iter().filter(|node| !node.seed) {
            let way = |&label: &usize| {
                let Label { strength, depth, worth: [worth, _], .. } = self.labels[label];
                Way { id: &node.id, strength, depth, worth, label }
            };
            ways.extend(node.labels.iter().map(way).min_by(Way::order));
        }
        ways.sort_unstable_by(|a, b| a.order(b).then_with(|| a.id.cmp(b.id)));
        ways
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

    fn beaten(&self, label: &Label, walk: Walk) -> bool {
        self.nodes[label.node].labels.iter().any(|&known| self.labels[known].beats(label, walk))
    }

    /// Takes a label into the level that begins at `level`, unless another beats it. Those of one node come together.
    fn keep(&mut self, label: Label, walk: Walk, level: usize) {
        if self.beaten(&label, walk) {
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
    fn of_what_is_as_strong_the_nearest_comes_first() {
        let steps = |from: &[String]| {
            let chain = [("a", "z"), ("z", "m"), ("a", "y")].into_iter().filter(|(id, _)| from.iter().any(|f| f == id));
            Ok(chain.map(|(from, to)| Step { from: from.into(), to: to.into(), strength: 1.0 }).collect())
        };
        let found = related(&["a".to_owned()], Walk { depth: 2, min_strength: 0.0 }, 9, steps).unwrap();
        assert_eq!(found.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["y", "z", "m"]);
    }

    #[test]
    fn walks_are_bounded() {
        assert_eq!(reach(&["a"], 9, 0.6, 9).len(), 3);
        assert_eq!(reach(&["a"], 9, 0.0, 2), ways(&[("a-c", 0.9), ("a-c-b", 0.81)]));
        assert!(reach(&["a"], 0, 0.0, 9).is_empty() && reach(&[], 9, 0.0, 9).is_empty());
    }

    /// The ways of a walk from seeds with scores, each with what it is worth.
    fn worth(seeds: &[(&str, f64)], depth: usize, min_strength: f64) -> Vec<(String, f64)> {
        let edges =
            [("a", "x", 0.4), ("b", "x", 0.8), ("c", "x", 0.8), ("x", "y", 0.5), ("b", "y", 0.4), ("a", "b", 0.9)];
        let steps = |from: &[String]| {
            let edges = edges.iter().filter(|(source, _, _)| from.iter().any(|id| id == source));
            let step = |&(from, to, strength): &(&str, &str, f64)| Step { from: from.into(), to: to.into(), strength };
            Ok(edges.map(step).collect())
        };
        let seeds: Vec<Seed> = seeds.iter().map(|&(id, score)| Seed { id: id.into(), score }).collect();
        let value = |score: f64, strength: f64| if score < 0.0 { score * (2.0 - strength) } else { score * strength };
        let reach = walk(&seeds, Walk { depth, min_strength }, value, steps).unwrap();
        reach.best().iter().map(|way| (reach.path(way).join("-"), (way.worth * 1e6).round() / 1e6)).collect()
    }

    #[test]
    fn the_way_that_is_worth_most_counts() {
        // Over another seed, since it began with a better one.
        assert_eq!(worth(&[("a", 1.0), ("b", 0.7)], 2, 0.0), ways(&[("a-b-x", 0.72), ("a-b-y", 0.36)]));
        // Shorter, since the better one is too far.
        assert_eq!(worth(&[("a", 1.0), ("b", 0.7)], 1, 0.0), ways(&[("b-x", 0.56), ("b-y", 0.28)]));
        assert_eq!(worth(&[("a", 1.0), ("c", 0.3)], 1, 0.0), ways(&[("a-b", 0.9), ("a-x", 0.4)]));
        // Of ways that are alike, over the least id; a seed that is given twice has its better score.
        assert_eq!(worth(&[("c", 1.0), ("b", 1.0)], 1, 0.5), ways(&[("b-x", 0.8)]));
        for twice in [[("b", 0.5), ("b", 1.0)], [("b", 1.0), ("b", 0.5)]] {
            assert_eq!(worth(&twice, 1, 0.5), ways(&[("b-x", 0.8)]));
        }
    }

    #[test]
    fn a_way_that_is_too_weak_to_go_on_hides_no_other() {
        // To x the way from a is worth more, but too weak to lead on to y.
        assert_eq!(worth(&[("a", 3.0), ("c", 1.0)], 1, 0.4), ways(&[("a-b", 2.7), ("a-x", 1.2)]));
        let found = ways(&[("a-b", 2.7), ("a-b-x", 2.16), ("c-x-y", 0.4)]);
        assert_eq!(worth(&[("a", 3.0), ("c", 1.0)], 2, 0.38), found);
        let found = ways(&[("a-b", 2.7), ("a-b-x", 2.16), ("a-b-y", 1.08)]);
        assert_eq!(worth(&[("a", 3.0), ("c", 1.0)], 2, 0.0), found);
    }

    #[test]
    fn what_is_worth_less_now_may_be_worth_more_later() {
        // To x: -1.5 * (2 - 0.8) = -1.8 against -1.25 * (2 - 0.4) = -2; to y: -1.5 * (2 - 0.4) = -2.4 against -2.25.
        let found = worth(&[("a", -1.25), ("c", -1.5)], 1, 0.0);
        assert_eq!(found, ways(&[("a-b", -1.375), ("c-x", -1.8)]));
        let steps = |from: &[String]| {
            let step = |from: &str, to: &str, strength| Step { from: from.into(), to: to.into(), strength };
            let all = [step("a", "x", 0.4), step("c", "x", 0.8), step("x", "y", 0.5)];
            Ok(all.into_iter().filter(|step| from.contains(&step.from)).collect())
        };
        let seeds = [("a", -1.25), ("c", -1.5)].map(|(id, score)| Seed { id: id.into(), score });
        let value = |score: f64, strength: f64| score * (2.0 - strength);
        let reach = walk(&seeds, Walk { depth: 2, min_strength: 0.0 }, value, steps).unwrap();
        let paths: Vec<String> = reach.best().iter().map(|way| reach.path(way).join("-")).collect();
        assert_eq!(paths, ["c-x", "a-x-y"]);
    }

    #[test]
    fn a_worse_seed_that_can_only_be_worth_less_is_not_followed() {
        let steps = |from: &[String]| {
            assert!(from.len() < 3);
            let strength = |id: &str| if id == "b" { 0.95 } else { 0.9 };
            Ok(from.iter().map(|id| Step { from: id.clone(), to: "hub".into(), strength: strength(id) }).collect())
        };
        let seeds = [("a", 1.0), ("b", 0.9)].map(|(id, score)| Seed { id: id.into(), score });
        let reach = walk(&seeds, Walk { depth: 1, min_strength: 0.0 }, |score, strength| score * strength, steps);
        assert_eq!(reach.unwrap().labels.len(), 3);
    }

    #[test]
    fn where_it_began_is_not_what_it_found() {
        assert_eq!(reach(&["a", "b", "c"], 3, 0.0, 9), ways(&[("b-d", 1.0), ("b-d-e", 0.1)]));
        assert!(reach(&["e"], 3, 0.0, 9).is_empty());
    }
}
