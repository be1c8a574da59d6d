//! How the text of a script is put together: the shared parts that it uses, no more of them than it needs, and its own text.

use std::collections::HashSet;

use redis::Script;

use crate::rules::{LEASE, STALLS_TOLERATED, milliseconds};

/// About how many entries the stream of events keeps. One call of a script makes an entry for all that it brought to the same
/// state, which is up to a hundred.
const EVENTS_KEPT: u32 = 10_000;

/// About how many ends of jobs wait for somebody to make deliveries of them. Workers do within a second; only where none
/// does for long are the oldest lost.
const OUTBOX_KEPT: u32 = 500_000;

/// What the scripts share with this code, as Lua.
fn constants(version: u32) -> String {
    let numbers = [
        ("VERSION", u64::from(version)),
        ("LEASE_MS", milliseconds(LEASE)),
        ("STALLS_TOLERATED", u64::from(STALLS_TOLERATED)),
        // How many elements a script touches at most.
        ("CHUNK", 100),
        // How many jobs a page of a listing looks at, at most.
        ("SCANNED", 1000),
        ("DONE_KEPT_S", 3600),
        ("IDEMPOTENCY_KEPT_S", 86_400),
        // Reconcilers run every second; longer than this without any means that Redis was away.
        ("GAP_MS", 3000),
        // How often a listing is swept, and results that have expired are looked for in their index; at least once in a tenth
        // of the time that they are kept.
        ("SWEEP_EVERY_MS", 600_000),
        ("WALK_EVERY_MS", 1_800_000),
        // How many invalidations are carried out at once, and remembered for runs that began before them.
        ("PURGES_MOST", 100),
        // How many trials of a campaign are known one by one, and how many campaigns of a tenant are listed.
        ("TRIALS_MOST", 20_000),
        ("CAMPAIGNS_MOST", 1_000),
        // How many looks at one held-out series the log has.
        ("LOOKS_MOST", 1_000),
        // Requests and plans of more bytes than this stand apart from their records.
        ("LONG", 4096),
    ];
    let names: Vec<_> = numbers.iter().map(|(name, _)| *name).collect();
    let values: Vec<_> = numbers.iter().map(|(_, value)| value.to_string()).collect();
    let allowed = crate::state::transitions_as_text();
    format!(
        "local ALLOWED, EVENTS_KEPT, OUTBOX_KEPT = '{allowed}', '{EVENTS_KEPT}', '{OUTBOX_KEPT}'\nlocal {} = {}",
        names.join(", "),
        values.join(", ")
    )
}

/// The shared parts, in the order in which they use each other.
const PARTS: [(&str, &str); 13] = [
    ("ring", include_str!("ring.lua")),
    ("records", include_str!("records.lua")),
    ("places", include_str!("places.lua")),
    ("charges", include_str!("charges.lua")),
    ("jobs", include_str!("jobs.lua")),
    ("results", include_str!("results.lua")),
    ("trials", include_str!("trials.lua")),
    ("batches", include_str!("batches.lua")),
    ("runs", include_str!("runs.lua")),
    ("join", include_str!("join.lua")),
    ("accepted", include_str!("accepted.lua")),
    ("yielded", include_str!("yielded.lua")),
    ("view", include_str!("view.lua")),
];

/// What is in front of every script.
const BASE: &str = include_str!("base.lua");

/// What a script needs only now and then stands between these lines in its text: the function `seldom` runs it when it is first
/// called, behind what it alone needs of the parts, and answers what it leaves in `parts`.
const SELDOM: &str = "-- seldom\n";
const OFTEN: &str = "-- often\n";

/// A script with the parts that it uses in front, and of these what it needs: every call runs all of its text, and makes each
/// of its functions. What is in no function of a part is run where the part is used: always, or in `seldom`.
///
/// All but the base is in a function of its own. Lua finds a local variable that a new function refers to by walking over all
/// that are referred to in the function around it, the oldest last; those of a function further out it has at hand.
pub(super) fn load(version: u32, uses: &[&str], seldom: &[&str], own: &str) -> Script {
    Script::new(&text(version, uses, seldom, own))
}

fn text(version: u32, uses: &[&str], seldom: &[&str], own: &str) -> String {
    let (before, rare, after) = own
        .split_once(SELDOM)
        .and_then(|(before, rest)| rest.split_once(OFTEN).map(|(rare, after)| (before, rare, after)))
        .unwrap_or((own, "", ""));
    let often = [before, after].concat();
    let uses = [vec![BASE], parts(uses)].concat();
    let always = needed(&uses, &often);
    let own = if rare.is_empty() {
        often.clone()
    } else {
        let mut more = needed(&[uses, parts(seldom)].concat(), rare).concat();
        more.retain(|statement| !always.iter().any(|part| part.contains(statement)));
        let more = more.concat();
        format!(
            "{before}local parts\nlocal function seldom()\nif not parts then\n{more}{rare}end\nreturn parts\nend\n{after}"
        )
    };
    let (base, parts) = (always[0].concat(), always[1..].concat().concat());
    [&constants(version), &base, "return (function()", &parts, &own, "end)()"].join("\n")
}

/// A script whose own text lies elsewhere in the crate, with the shared parts that it uses in front.
pub(crate) fn assemble(version: u32, uses: &[&str], own: &[&str]) -> Script {
    load(version, uses, &[], &own.join("\n"))
}

fn parts(names: &[&str]) -> Vec<&'static str> {
    PARTS.iter().filter(|(name, _)| names.contains(name)).map(|(_, part)| *part).collect()
}

/// Of each of these parts the statements that `text` needs, by itself or through others, and those that define nothing.
fn needed<'a>(parts: &[&'a str], text: &'a str) -> Vec<Vec<&'a str>> {
    let mut used: HashSet<&str> = words(text).collect();
    // Lua defines before it uses: whoever may need a statement comes after it.
    let mut kept: Vec<_> = parts
        .iter()
        .rev()
        .map(|part| {
            let mut kept = statements(part);
            kept.reverse();
            kept.retain(|statement| {
                let defined = defined(statement);
                let needed = defined.is_empty() || defined.iter().any(|name| used.contains(name));
                if needed {
                    used.extend(words(statement));
                }
                needed
            });
            kept.reverse();
            kept
        })
        .collect();
    kept.reverse();
    kept
}

/// The statements of a part, each with the lines behind it that do not begin another. A statement begins in the first column.
fn statements(part: &str) -> Vec<&str> {
    let begins = |line: &str| {
        let first = line.split(|of: char| !of.is_ascii_alphanumeric() && of != '_').next();
        first.is_some_and(|word| !["", "end", "else", "elseif", "until"].contains(&word))
    };
    let mut at = 0;
    let mut starts = Vec::new();
    for line in part.split_inclusive('\n') {
        if begins(line) {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([part.len()]);
    starts.iter().zip(ends).map(|(start, end)| &part[*start..end]).collect()
}

/// The names that a statement defines.
fn defined(statement: &str) -> Vec<&str> {
    let Some(rest) = statement.strip_prefix("local ") else { return Vec::new() };
    let names = match rest.strip_prefix("function ") {
        Some(function) => function.split('(').next(),
        None => rest.split(['=', '\n']).next().and_then(|names| names.split("--").next()),
    };
    words(names.unwrap_or_default()).collect()
}

/// All that may be a name in a text, without its comments.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().map(|line| line.split_once("-- ").map_or(line, |(code, _)| code));
    code.flat_map(|line| line.split(|of: char| !of.is_ascii_alphanumeric() && of != '_'))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: &str = "\
-- What is above the first statement is no part of any.
local kept, other = 1, 2 -- used by nobody: `three`
local function one(a)
  return a
end
local function two() return one(kept) end
-- Speaks of one.
local function three(a) return a end
if other then
  three(1)
end
local function four() return 4 end
";

    #[test]
    fn a_part_is_a_list_of_statements_and_what_they_define() {
        let found: Vec<_> = statements(PART).into_iter().map(defined).collect();
        assert_eq!(
            found,
            [vec!["kept", "other"], vec!["one"], vec!["two"], vec!["three"], vec![], vec!["four"]]
        );
    }

    #[test]
    fn what_nobody_needs_is_left_out() {
        let with = |text: &'static str| {
            let kept = needed(&["local base = 1\n", PART], text);
            kept.into_iter()
                .map(|part| part.into_iter().flat_map(defined).collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        // What defines nothing is run, so that it needs what it names.
        assert_eq!(with(""), ["", "kept other three"]);
        assert_eq!(with("two()"), ["", "kept other one two three"]);
        assert_eq!(with("return 1 -- not two"), ["", "kept other three"]);
        assert_eq!(with("return base"), ["base", "kept other three"]);
    }

    #[test]
    fn what_is_seldom_needed_is_in_a_function_and_nothing_is_there_twice() {
        let own = "run_of(KEYS[1])\n-- seldom\nparts = { enqueue = enqueue, run_of = run_of }\n-- often\nseldom().enqueue()\n";
        let text = text(1, &["records"], &["ring", "places"], own);
        let at = |what: &str| {
            assert_eq!(text.matches(what).count(), 1, "{what}");
            text.find(what)
        };
        let (always, often) = (at("local function seldom()"), at("seldom().enqueue()"));
        for (what, is_seldom) in [
            ("local function run_of(", false),
            ("local function in_parts(", false), // what writes records is run always
            ("local function wake(", true),
            ("local function wants_of(", true),
            ("local function link(", true),
            ("local function enqueue(", true),
        ] {
            assert_eq!(always < at(what) && at(what) < often, is_seldom, "{what}");
        }
        assert!(!text.contains("local function join("));
    }

    #[test]
    fn a_name_is_defined_by_one_part_alone() {
        let mut names: Vec<_> = [BASE]
            .into_iter()
            .chain(PARTS.map(|(_, part)| part))
            .flat_map(statements)
            .flat_map(defined)
            .collect();
        let number = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), number);
    }
}
