//! Flags of the numbers that losses have: one for each name, whatever losses have it.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use crate::bandit::Problem;
use crate::error::{Error, Result};
use crate::loss::{Given, Number, NumberOf, Objective};

/// What tells the flags of numbers from a command's own.
const ID: &str = "number:";

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
    let Number { name, range, .. } = *of.number;
    Arg::new(id(of.number))
        .long(of.number.flag())
        .value_name(name.to_uppercase())
        .help(match of.number.default {
            None if of.objectives.len() == 1 => format!("{} [must be given]", of.help()),
            _ => format!("{} [default: {}]", of.help(), of.default()),
        })
        .help_heading(heading)
        .allow_negative_numbers(true)
        .value_parser(move |text: &str| {
            (text.parse::<f64>()).map_err(|_| format!("it is no number; give {range}"))
        })
}

/// Refuses losses, beside those of this library, with a number whose flag a command has for something else.
///
/// # Errors
/// One of them.
pub fn refuse_taken(command: &Command, losses: &[Objective]) -> Result<()> {
    let ours = NumberOf::all(&Objective::own().collect::<Vec<_>>());
    let brought = (NumberOf::all(losses).into_iter())
        .filter(|of| ours.iter().all(|o| o.number.name != of.number.name));
    for of in brought {
        let long = of.number.flag();
        let takes = |arg: &Arg| {
            let also = arg.get_all_aliases().unwrap_or_default();
            let named = arg.get_long() == Some(&long) || also.contains(&long.as_str());
            named && !arg.get_id().as_str().starts_with(ID)
        };
        let with_numbers = |command: &&Command| {
            (command.get_arguments()).any(|arg| arg.get_id().as_str().starts_with(ID))
        };
        let mut commands = command.get_subcommands().filter(with_numbers);
        let taken = if long == "help" {
            commands.next()
        } else {
            commands.find(|command| command.get_arguments().any(takes))
        };
        if let Some(command) = taken {
            return Err(Error::invalid(
                format!(
                    "objective `{}`: number `{}`",
                    of.objectives[0].name(),
                    of.number.name
                ),
                format!(
                    "`{}` has a flag --{long} for something else",
                    command.get_name()
                ),
                "give the number another name",
            ));
        }
    }
    Ok(())
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
    format!("{ID}{}", number.name)
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
        let taken = |number: &Number| {
            let long = number.flag();
            command
                .get_arguments()
                .any(|arg| arg.get_long() == Some(&long))
        };
        let free: Vec<_> = (all().into_iter())
            .filter(|of| !taken(of.number))
            .map(|of| flag(&of, "Numbers of losses"))
            .collect();
        command.args(free)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use super::*;
    use crate::backend::Backend;
    use crate::loss::{InputKind, Inputs, Loss, Spec};

    crate::numbers! {
        struct Taken {
            /// A number of the name of a flag of `verify` and others
            problem in any() = 0.0;
        }
    }

    crate::numbers! {
        struct Former {
            /// A number of the former name of `--seed`
            key in any() = 0.0;
        }
    }

    crate::numbers! {
        struct Free {
            /// A number of a name that is free
            lead in any() = 0.0;
        }
    }

    struct With<N>(PhantomData<fn() -> N>);

    impl<N: crate::loss::Numbers> Loss for With<N> {
        type Numbers = N;
        fn spec(&self) -> Spec {
            Spec::new("mine", InputKind::LabelledPairs)
        }
        fn loss<X: Backend>(&self, _: &N, inputs: &Inputs<X>) -> Result<X> {
            inputs.pair()?.difference()?.neg()
        }
    }

    #[test]
    fn a_number_does_not_take_the_name_of_another_flag() {
        use clap::CommandFactory;
        let command = crate::cli::with_old_names(crate::cli::Cli::command());
        let said = |loss: Objective| {
            let losses = [&Objective::ALL[..], &[loss]].concat();
            refuse_taken(&command, &losses).map_err(|e| e.to_string())
        };
        assert_eq!(said(Objective::of(&With::<Free>(PhantomData))), Ok(()));
        let taken = said(Objective::of(&With::<Taken>(PhantomData))).unwrap_err();
        let says = "has a flag --problem for something else; give the number another name";
        assert!(
            taken.starts_with("objective `mine`: number `problem`: ") && taken.ends_with(says),
            "{taken}"
        );
        assert!(said(Objective::of(&With::<Former>(PhantomData))).is_err());
    }
}
