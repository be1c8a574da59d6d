//! What to try next.

use std::collections::{BTreeMap, HashSet};

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tpe::TpeOptimizer;

use super::space::Dimension;

/// How a search goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Tree-structured Parzen estimator: more of what did well, for each hyperparameter by itself (Bergstra et al. 2011).
    #[default]
    Tpe,
    /// Evenly at random.
    Random,
}

/// Values of all dimensions.
pub type Point = BTreeMap<String, Value>;

/// A point that was tried, by its coordinates, and its score.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    /// In the order of the dimensions.
    pub coordinates: &'a [f64],
    /// Larger is better.
    pub score: f64,
}

/// A point to try.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// In the order of the dimensions.
    pub coordinates: Vec<f64>,
    /// The values there.
    pub point: Point,
}

/// How many random points TPE begins with, at most.
const STARTUP_MOST: usize = 20;
/// How often a point is drawn again that was tried already, before the neighbourhood is left.
const REDRAWN: usize = 20;
/// Of those told, how many count as good, as a share.
const GAMMA: f64 = 0.2;
/// Of how many draws the best is taken. Few, since all points of a round come from the same model: the more, the more alike.
const CANDIDATES: usize = 4;

/// The next points, at most `count`, all different from each other and from those in `tried`. The same arguments, the same
/// points. Fewer when there are no more.
pub fn ask(
    space: &[Dimension],
    method: Method,
    seed: u64,
    told: &[Told<'_>],
    tried: &[Point],
    count: usize,
) -> Vec<Asked> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Each round has a stream of its own.
    random.set_stream(tried.len() as u64);
    let mut taken: HashSet<String> = tried.iter().map(spelled).collect();
    let size = space.iter().try_fold(1_u64, |size, dimension| size.checked_mul(dimension.values.count()?));
    let startup = method == Method::Random || told.len() < STARTUP_MOST;
    let mut models = if startup { Vec::new() } else { models(space, told) };
    let mut asked = Vec::with_capacity(count);
    while asked.len() < count && size.is_none_or(|size| (taken.len() as u64) < size) {
        let mut drawn = None;
        for attempt in 0..2 * REDRAWN {
            let coordinates = if models.is_empty() || attempt >= REDRAWN {
                space.iter().map(|dimension| evenly(dimension, &mut random)).collect()
            } else {
                modelled(space, &mut models, &mut random)
            };
            let point = point(space, &coordinates);
            if taken.insert(spelled(&point)) {
                drawn = Some(Asked { coordinates, point });
                break;
            }
        }
        // In a nearly exhausted space luck no longer helps.
        match drawn.or_else(|| first_untaken(space, &mut taken)) {
            Some(next) => asked.push(next),
            None => break,
        }
    }
    asked
}

/// The values at these coordinates.
pub fn point(space: &[Dimension], coordinates: &[f64]) -> Point {
    space
        .iter()
        .zip(coordinates)
        .map(|(dimension, at)| (dimension.name.clone(), dimension.values.at(*at)))
        .collect()
}

fn spelled(point: &Point) -> String {
    serde_json::to_string(point).unwrap_or_default()
}

fn evenly(dimension: &Dimension, random: &mut ChaCha8Rng) -> f64 {
    let (from, to) = dimension.values.coordinates();
    random.random_range(from..to)
}

fn models(space: &[Dimension], told: &[Told<'_>]) -> Vec<Option<TpeOptimizer>> {
    let model = |(index, dimension): (usize, &Dimension)| {
        let (from, to) = dimension.values.coordinates();
        let estimator =
            if dimension.values.ordered() { tpe::parzen_estimator() } else { tpe::histogram_estimator() };
        let range = tpe::range(from, to).ok()?;
        let mut model = tpe::TpeOptimizerBuilder::new()
            .gamma(GAMMA)
            .candidates(CANDIDATES)
            .build(estimator, range)
            .ok()?;
        for trial in told {
            // It minimises. What it does not take, it does without.
            let _untold = model.tell(*trial.coordinates.get(index)?, -trial.score);
        }
        Some(model)
    };
    space.iter().enumerate().map(model).collect()
}

fn modelled(space: &[Dimension], models: &mut [Option<TpeOptimizer>], random: &mut ChaCha8Rng) -> Vec<f64> {
    let draw = |(dimension, model): (&Dimension, &mut Option<TpeOptimizer>)| {
        let asked = model.as_mut().and_then(|model| model.ask(random).ok()).filter(|at| at.is_finite());
        asked.unwrap_or_else(|| evenly(dimension, random))
    };
    space.iter().zip(models).map(draw).collect()
}

/// Of a finite space, the first point that was not tried.
fn first_untaken(space: &[Dimension], taken: &mut HashSet<String>) -> Option<Asked> {
    let counts: Vec<u64> = space.iter().map(|dimension| dimension.values.count()).collect::<Option<_>>()?;
    // Among more points than were tried there is one that was not.
    for number in 0..=taken.len() as u64 {
        let mut rest = number;
        #[expect(clippy::cast_precision_loss, reason = "an index of at most 2^32")]
        let coordinates: Vec<f64> = counts
            .iter()
            .map(|count| {
                let index = rest % count;
                rest /= count;
                index as f64 + 0.5
            })
            .collect();
        if rest > 0 {
            return None;
        }
        let point = point(space, &coordinates);
        if taken.insert(spelled(&point)) {
            return Some(Asked { coordinates, point });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimize::space::Values;

    fn space() -> Vec<Dimension> {
        let dimension = |name: &str, values| Dimension { name: name.into(), values };
        vec![
            dimension("x", Values::Between { min: -5.0, max: 5.0 }),
            dimension("n", Values::Int { min: 0, step: 1, count: 100 }),
            dimension("kind", Values::Options(vec!["good".into(), "bad".into(), "ugly".into()])),
        ]
    }

    /// Best at x = 1, n = 70, good: 0.
    fn landscape(point: &Point) -> f64 {
        let number = |name: &str| point[name].as_f64().unwrap_or(f64::NAN);
        let kind = if point["kind"] == "good" { 0.0 } else { 2.0 };
        -(number("x") - 1.0).powi(2) - ((number("n") - 70.0) / 20.0).powi(2) - kind
    }

    fn best_of(method: Method, seed: u64, trials: usize) -> f64 {
        let space = space();
        let (mut asked, mut scores): (Vec<Asked>, Vec<f64>) = Default::default();
        while asked.len() < trials {
            let told: Vec<_> = asked
                .iter()
                .zip(&scores)
                .map(|(asked, score)| Told { coordinates: &asked.coordinates, score: *score })
                .collect();
            let tried: Vec<_> = asked.iter().map(|asked| asked.point.clone()).collect();
            let next = ask(&space, method, seed, &told, &tried, 20);
            assert_eq!(next, ask(&space, method, seed, &told, &tried, 20), "the same again");
            scores.extend(next.iter().map(|asked| landscape(&asked.point)));
            asked.extend(next);
        }
        let distinct: HashSet<_> = asked.iter().map(|asked| spelled(&asked.point)).collect();
        assert_eq!(distinct.len(), asked.len(), "nothing is tried twice");
        scores.into_iter().fold(f64::NEG_INFINITY, f64::max)
    }

    #[test]
    fn the_model_finds_better_points_than_luck() {
        let median = |method| {
            let mut best: Vec<_> = (0..9).map(|seed| best_of(method, seed, 200)).collect();
            best.sort_by(f64::total_cmp);
            best[4]
        };
        let (tpe, random) = (median(Method::Tpe), median(Method::Random));
        assert!(tpe > random / 10.0, "ten times nearer to the best: {tpe} against {random}");
    }

    #[test]
    fn other_seeds_try_other_points() {
        let first = |seed| ask(&space(), Method::Tpe, seed, &[], &[], 5);
        assert_ne!(first(1), first(2));
    }

    #[test]
    fn a_small_space_is_exhausted_and_no_point_comes_twice() {
        let dimension = |name: &str, count| Dimension {
            name: name.into(),
            values: Values::Int { min: 1, step: 2, count },
        };
        let space = [dimension("a", 5), dimension("b", 3)];
        let mut tried: Vec<Point> = Vec::new();
        for expected in [10, 5, 0] {
            let next = ask(&space, Method::Random, 7, &[], &tried, 10);
            assert_eq!(next.len(), expected);
            tried.extend(next.into_iter().map(|asked| asked.point));
        }
        assert_eq!(tried.iter().map(spelled).collect::<HashSet<_>>().len(), 15);
    }

    #[test]
    fn without_a_dimension_there_is_one_point() {
        assert_eq!(ask(&[], Method::Random, 7, &[], &[], 10).len(), 1);
    }
}
