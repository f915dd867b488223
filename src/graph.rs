//! Walks over relations, pure.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::error::Result;
use crate::model::Related;

/// How far a walk goes, and which ways it follows.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    pub depth: usize,
    pub min_strength: f64,
    pub limit: usize,
}

/// A relation as a walk sees it: from an id that the walk has come to, to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub from: String,
    pub to: String,
    pub strength: f64,
}

/// What can be reached from `ids`, the strongest first, then the nearest, then by id. `steps` gives the relations of
/// some ids.
///
/// A way is as strong as the product of its relations. Level by level the walk goes on from those ids alone to which it
/// found a stronger way than all shorter ones: no relation is stronger than 1, so a way in circles is never among them,
/// and the work grows with the relations in reach, not with the number of ways through them.
pub fn walk(ids: &[String], walk: Walk, mut steps: impl FnMut(&[String]) -> Result<Vec<Step>>) -> Result<Vec<Related>> {
    let mut best: HashMap<String, f64> = ids.iter().map(|id| (id.clone(), f64::INFINITY)).collect();
    // Of each level: an id, the id before it on its way, and the strength of the way.
    let mut levels: Vec<HashMap<String, (String, f64)>> = Vec::new();
    let mut frontier: HashMap<String, f64> = ids.iter().map(|id| (id.clone(), 1.0)).collect();
    while levels.len() < walk.depth && !frontier.is_empty() {
        let mut from: Vec<String> = frontier.keys().cloned().collect();
        from.sort_unstable();
        let mut level: HashMap<String, (String, f64)> = HashMap::new();
        for step in steps(&from)? {
            let strength = frontier.get(&step.from).copied().unwrap_or_default() * step.strength;
            if strength < walk.min_strength || best.get(&step.to).is_some_and(|&known| known >= strength) {
                continue;
            }
            let way = level.entry(step.to).or_insert_with(|| (step.from.clone(), strength));
            // Of equally strong ways that over the least id.
            if strength > way.1 || (strength == way.1 && step.from < way.0) {
                *way = (step.from, strength);
            }
        }
        frontier = level.iter().map(|(id, (_, strength))| (id.clone(), *strength)).collect();
        best.extend(frontier.iter().map(|(id, &strength)| (id.clone(), strength)));
        levels.push(level);
    }
    // The strongest way to an id is the one of the last level that found one.
    let mut found: HashMap<&str, (usize, f64)> = HashMap::new();
    for (depth, level) in levels.iter().enumerate() {
        found.extend(level.iter().map(|(id, (_, strength))| (id.as_str(), (depth, *strength))));
    }
    let mut order: Vec<(&str, usize, f64)> =
        found.into_iter().map(|(id, (depth, strength))| (id, depth, strength)).collect();
    order.sort_by(|a, b| b.2.partial_cmp(&a.2).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1)).then(a.0.cmp(b.0)));
    order.truncate(walk.limit);
    let related = |(id, depth, strength): (&str, usize, f64)| {
        let mut path = vec![id.to_owned()];
        for level in levels[..=depth].iter().rev() {
            if let Some((before, _)) = path.last().and_then(|id| level.get(id)) {
                path.push(before.clone());
            }
        }
        path.reverse();
        Related { id: id.to_owned(), path, strength, depth: depth + 1 }
    };
    Ok(order.into_iter().map(related).collect())
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
        let found = walk(&ids, Walk { depth, min_strength, limit }, steps).unwrap();
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

    #[test]
    fn where_it_began_is_not_what_it_found() {
        assert_eq!(reach(&["a", "b", "c"], 3, 0.0, 9), ways(&[("b-d", 1.0), ("b-d-e", 0.1)]));
        assert!(reach(&["e"], 3, 0.0, 9).is_empty());
    }
}
