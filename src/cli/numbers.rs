//! Flags of the numbers that losses have: one for each name, whatever losses have it.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use crate::Result;
use crate::bandit::Problem;
use crate::loss::{Given, Number, NumberOf, Objective};

/// Numbers of losses that a command was given.
#[derive(Clone)]
pub struct NumberFlags(Given);

impl NumberFlags {
    /// A problem with these numbers in place of its own; β too, unless the command has a flag of its own for it.
    ///
    /// # Errors
    /// A number of which none of the objectives has one; a β that is none.
    pub fn over(&self, problem: Problem, objectives: &[Objective]) -> Result<Problem> {
        for (name, number) in self.0.iter() {
            let one = Given::new().with(name, number);
            let refused: Result<Vec<()>> =
                objectives.iter().map(|o| o.refuse_others(&one)).collect();
            let used = |o: &Objective| o.numbers().iter().any(|n| n.name == name);
            if !objectives.iter().any(used) {
                refused?;
            }
        }
        Ok(problem.with_numbers(&self.0))
    }
}

/// Every number that some objective has.
pub fn all() -> Vec<NumberOf> {
    NumberOf::all(&Objective::known())
}

/// The flag of a number.
pub fn flag(of: &NumberOf, heading: &'static str) -> Arg {
    let name = of.number.name;
    Arg::new(id(of.number))
        .long(name.replace('_', "-"))
        .value_name(name.to_uppercase())
        .help(match of.number.default {
            None if of.objectives.len() == 1 => format!("{} [must be given]", of.help()),
            _ => format!("{} [default: {}]", of.help(), of.default()),
        })
        .help_heading(heading)
        .allow_negative_numbers(true)
        .value_parser(|text: &str| text.parse::<f64>())
}

/// The numbers that were given, of those that a command has flags for.
pub fn given(matches: &ArgMatches) -> Given {
    let mut given = Given::new();
    for NumberOf { number, .. } in all() {
        let id = id(number);
        let known = matches.try_contains_id(&id).is_ok();
        if known
            && matches.value_source(&id) == Some(ValueSource::CommandLine)
            && let Some(value) = matches.get_one::<f64>(&id)
        {
            given = given.with(number.name, *value);
        }
    }
    given
}

fn id(number: &Number) -> String {
    format!("number:{}", number.name)
}

impl FromArgMatches for NumberFlags {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        Ok(Self(given(matches)))
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for NumberFlags {
    fn augment_args(command: Command) -> Command {
        // A command's own flag goes before.
        let taken = |name: &str| {
            let long = name.replace('_', "-");
            command
                .get_arguments()
                .any(|arg| arg.get_long() == Some(&long))
        };
        let free: Vec<_> = (all().into_iter())
            .filter(|of| !taken(of.number.name))
            .map(|of| flag(&of, "Numbers of losses"))
            .collect();
        command.args(free)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
