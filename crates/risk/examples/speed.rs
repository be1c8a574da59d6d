//! How long simulations take: `speed.py` beside this file runs it and numpy on the same data, one after the other.
//!
//! Reads returns from standard input, one a line, and prints the milliseconds of each of the runs (as many as its argument
//! says, 5 without) of 10,000 paths, with the median largest drawdown for comparison.

use std::io::Read;
use std::time::Instant;

use risk::simulation::{SimulationOptions, simulate};

#[expect(clippy::print_stdout, reason = "an example prints its answer")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let values = text.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let mut arguments = std::env::args().skip(1);
    let runs: usize = arguments.next().map_or(Ok(5), |argument| argument.parse())?;
    let block_length: f64 = arguments.next().map_or(Ok(1.0), |argument| argument.parse())?;
    let options = SimulationOptions {
        block_length: Some(block_length),
        steps_per_year: Some(365.0),
        ..SimulationOptions::default()
    };
    for _ in 0..runs {
        let start = Instant::now();
        let simulation = simulate(&values, &options)?;
        println!(
            "{:.3} {:.6}",
            start.elapsed().as_secs_f64() * 1e3,
            simulation.max_drawdown.quantiles[3].value
        );
    }
    Ok(())
}
