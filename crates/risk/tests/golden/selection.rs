//! Overfitting and superior ability.

use risk::bootstrap::BootstrapOptions;
use risk::selection::{probability_of_overfitting, superior_predictive_ability};

use super::{golden, numbers, rows, same_as};

#[test]
fn overfitting_is_that_of_the_plain_definition() {
    let golden = golden();
    let theirs = &golden["overfitting"];
    let noise = rows(&theirs["noise"]);
    let mut planted = noise.clone();
    let plant = numbers(&theirs["plant"]);
    for value in &mut planted[4] {
        *value += plant[1];
    }
    for (trials, key) in [(noise, "of_noise"), (planted, "of_planted")] {
        let ours = probability_of_overfitting(&trials, 8).unwrap();
        assert_eq!(ours.splits, 70);
        same_as(&theirs[key], "probability", ours.probability);
        same_as(&theirs[key], "median_logit", ours.median_logit);
        same_as(&theirs[key], "slope", ours.slope.unwrap());
        same_as(&theirs[key], "loss", ours.probability_of_loss);
    }
}

/// arch does not studentize its statistic; 5,000 replicates on each side leave an error of 0.01 at most.
#[test]
fn superior_ability_is_that_of_arch() {
    let golden = golden();
    let theirs = &golden["superior"];
    let options = BootstrapOptions {
        replications: 20_000,
        block_length: Some(5.0),
        seed: 11,
        ..BootstrapOptions::default()
    };
    let ours = superior_predictive_ability(&rows(&theirs["models"]), false, &options).unwrap();
    for (ours, theirs) in [ours.lower, ours.consistent, ours.upper].iter().zip(numbers(&theirs["p_values"])) {
        assert!((ours - theirs).abs() < 0.03, "{ours} here, {theirs} there");
    }
}
