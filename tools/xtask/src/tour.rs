//! Keeps the README honest: its ```` ```console ```` blocks are one tour, played from the first line to the last in one
//! shell, and what the README says that a command prints is compared with what it prints; see [`pattern`] for what may
//! vary. Blocks that shall not run are marked ```` ```sh ````.
//!
//! - `$ command` runs, in bash, in an empty folder with the programs on the `PATH` and the repository's `tools/` beside
//!   it; `> ` continues a command. Folder and variables stay as they are from one command to the next.
//! - A command succeeds, or its line ends with `# exits with N`. `<name>` in a command stands for what an output bound.
//! - All other lines are output, standard error included. A command with no lines after it may print anything.

mod pattern;
mod session;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::demo;
use crate::keeper::Keeper;
use pattern::Bindings;
use session::Session;

const README: &str = "README.md";

/// One command of the tour.
#[derive(Debug, PartialEq, Eq)]
struct Scene {
    /// In the README, from 1.
    line: usize,
    command: String,
    exit: i32,
    output: Vec<String>,
}

/// `cargo xtask readme`.
pub(crate) fn run(root: &Path, built: Option<&Path>) -> anyhow::Result<()> {
    play(root, &demo::programs(root, built)?)
}

/// Whether the README has a tour.
pub(crate) fn is_there(root: &Path) -> bool {
    std::fs::read_to_string(root.join(README)).is_ok_and(|text| text.lines().any(|line| line.trim() == "```console"))
}

/// Plays the tour with built programs.
pub(crate) fn play(root: &Path, programs: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(root.join(README)).context("there is no README.md to follow")?;
    let scenes = scenes(&text)?;
    ensure!(
        !scenes.is_empty(),
        "README.md has no ```console block: nothing to follow"
    );
    let keeper = Keeper::new("tour", &programs.join("quipu"))?;
    let played = follow(&scenes, root, programs, keeper.folder());
    let ended = keeper.end(false);
    played?;
    ended?;
    println!("README.md: {} commands print what it says", scenes.len());
    Ok(())
}

fn follow(scenes: &[Scene], root: &Path, programs: &Path, folder: &Path) -> anyhow::Result<()> {
    let session = Session::new(root, programs, folder)?;
    let mut bound = Bindings::new();
    for scene in scenes {
        let command = pattern::filled(&scene.command, &bound);
        println!("$ {command}");
        let started = Instant::now();
        let (exit, output) = session.run(&command)?;
        print!("{output}");
        let actual: Vec<&str> = output.lines().collect();
        let (line, exit_said) = (scene.line, scene.exit);
        ensure!(
            exit == exit_said,
            "{README}:{line}: exits with {exit}, but the README says {exit_said}"
        );
        if !scene.output.is_empty() {
            bound = pattern::matched(&scene.output, &actual, &bound).map_err(|matched| {
                let said = scene.output.get(matched).map_or("no more lines", String::as_str);
                let after = line
                    .saturating_add(scene.command.lines().count())
                    .saturating_add(matched);
                anyhow::anyhow!("{README}:{after}: the command above prints something else than: {said}")
            })?;
        }
        println!("    ({} ms)", started.elapsed().as_millis());
    }
    Ok(())
}

/// The commands of all console blocks, in order.
fn scenes(text: &str) -> anyhow::Result<Vec<Scene>> {
    let mut scenes: Vec<Scene> = Vec::new();
    let (mut inside, mut first, mut continues) = (false, 0_usize, false);
    for (index, line) in text.lines().enumerate() {
        let number = index.saturating_add(1);
        let fence = line.trim_start().starts_with("```");
        if fence {
            inside = !inside && line.trim() == "```console";
            first = scenes.len();
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            scenes.push(Scene {
                line: number,
                command: command.to_owned(),
                exit: 0,
                output: Vec::new(),
            });
            continues = true;
        } else if inside {
            let Some(scene) = scenes.get_mut(first..).and_then(<[Scene]>::last_mut) else {
                bail!("{README}:{number}: output before the first command of a block");
            };
            match line.strip_prefix("> ").filter(|_| continues) {
                Some(rest) => {
                    scene.command.push('\n');
                    scene.command.push_str(rest);
                }
                None => {
                    scene.output.push(line.to_owned());
                    continues = false;
                }
            }
        }
    }
    for scene in &mut scenes {
        scene.exit = said_exit(&scene.command)?;
    }
    Ok(scenes)
}

/// The exit code that a command's comment announces.
fn said_exit(command: &str) -> anyhow::Result<i32> {
    let Some((_, code)) = command.rsplit_once("# exits with ") else {
        return Ok(0);
    };
    code.trim()
        .parse()
        .with_context(|| format!("no exit code in `{command}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_blocks_are_scenes() {
        let text =
            "# A\n```sh\n$ not this\n```\n```console\n$ one \\\n> two\nout\n\nmore\n$ three  # exits with 3\n```\nx\n";
        let scene = |line, command: &str, exit, output: &[&str]| Scene {
            line,
            command: command.to_owned(),
            exit,
            output: output.iter().map(|line| (*line).to_owned()).collect(),
        };
        let expected = [
            scene(6, "one \\\ntwo", 0, &["out", "", "more"]),
            scene(11, "three  # exits with 3", 3, &[]),
        ];
        assert_eq!(scenes(text).unwrap(), expected);
        assert!(scenes("```console\nout first\n```\n").is_err());
        assert!(scenes("```console\n$ x # exits with pleasure\n```\n").is_err());
    }

    /// Plays a README in a checkout of its own.
    fn tour(text: &str) -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        std::fs::create_dir_all(root.path().join("tools"))?;
        std::fs::write(root.path().join("tools/data"), "from the repository\n")?;
        std::fs::write(root.path().join(README), text)?;
        play(root.path(), root.path())
    }

    #[test]
    fn a_true_tour_passes() {
        tour("```console\n$ cat tools/data\nfrom the repository\n$ cd .. ; x=$(basename $OLDPWD); cd $x\n```\n")
            .unwrap();
        tour("```console\n$ echo id $$; sh -c 'exit 3'  # exits with 3\nid <id>\n$ test <id> = $$\n```\n").unwrap();
        tour("```console\n$ a=1\n$ printf '%s\\n' $a b c >&2\n1\n...\n```\n").unwrap();
    }

    #[test]
    fn a_false_tour_is_found() {
        for (text, error) in [
            (
                "```console\n$ echo one\ntwo\n```\n",
                "README.md:3: the command above prints something else than: two",
            ),
            (
                "```console\n$ false\n```\n",
                "README.md:2: exits with 1, but the README says 0",
            ),
            ("# no tour\n", "README.md has no ```console block: nothing to follow"),
            ("```console\n$ exit 1\n```\n", "README.md: the shell of the tour ended"),
        ] {
            assert_eq!(tour(text).unwrap_err().to_string(), error);
        }
    }
}
