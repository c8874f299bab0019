//! Reads what `strace` saw a process do to one directory, and does the same to a [`Disk`].
//!
//! Invariant: a call that could change the directory in a way that is not understood here is an error, not ignored.
//! A change counts from the end of its call, a sync saves what had ended when it began. Of a call that was under way
//! when the process was killed, the directory itself tells whether it was still carried out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disk::{Change, Cut, Disk, FileId, Image, Moment, Naming};

/// Calls that can change a directory, or what a descriptor stands for.
const CALLS: &str = "open,openat,openat2,creat,close,dup,dup2,dup3,fcntl,write,pwrite64,writev,pwritev,pwritev2,fsync,\
                     fdatasync,sync_file_range,sync,syncfs,rename,renameat,renameat2,unlink,unlinkat,truncate,\
                     ftruncate,fallocate,link,linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,mmap,copy_file_range,\
                     sendfile,splice,io_uring_setup,io_setup";

/// A command that runs `program` and writes what it does into `trace`.
pub fn traced(program: &Path, trace: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-xx", "-a1", "-s", "100000000", "-e"]);
    command.arg(format!("trace={CALLS}")).arg("-o").arg(trace).arg(program);
    command
}

/// Something that the reader of a trace wants to know.
pub enum Event {
    /// The directory may look different after a power cut than before.
    Boundary(Moment),
    /// The process wrote this line to the file of marks.
    Mark(String),
}

/// Follows one life of a process.
pub struct Follower<'d> {
    disk: &'d mut Disk,
    dir: PathBuf,
    marks: PathBuf,
    descriptors: BTreeMap<u32, Descriptor>,
    /// Calls that have begun but not ended, by thread.
    begun: BTreeMap<u32, String>,
    /// What a sync that has begun will save, by thread.
    saving: BTreeMap<u32, (Option<FileId>, usize)>,
    /// Calls of which nobody knows whether they were carried out.
    doubtful: Vec<String>,
    events: Vec<Event>,
}

#[derive(Clone, Copy)]
enum Descriptor {
    Directory,
    Marks,
    /// Of RocksDB's own messages, or the lock: nothing is ever read from it.
    Unread,
    File {
        file: FileId,
        position: usize,
    },
}

/// A call that has ended.
struct Call<'l> {
    name: &'l str,
    arguments: Vec<&'l str>,
    answer: i64,
}

type Outcome<T> = Result<T, String>;

impl<'d> Follower<'d> {
    /// Of the process that works in `dir` and marks its progress in `marks`.
    pub fn new(disk: &'d mut Disk, dir: &Path, marks: &Path) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            marks: marks.to_owned(),
            descriptors: BTreeMap::new(),
            begun: BTreeMap::new(),
            saving: BTreeMap::new(),
            doubtful: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Reads a whole trace.
    pub fn follow(mut self, trace: &str) -> Outcome<Vec<Event>> {
        for line in trace.lines() {
            let shown = || line.chars().take(200).collect::<String>();
            self.line(line).map_err(|error| format!("{error}: {}", shown()))?;
        }
        self.doubtful.extend(std::mem::take(&mut self.begun).into_values());
        for call in std::mem::take(&mut self.doubtful) {
            self.decide(&call)?;
        }
        match self.differences() {
            names if names.is_empty() => Ok(self.events),
            names => Err(format!("rebuilt wrongly: {names:?}")),
        }
    }

    /// Carries out a doubtful call where the directory is then more like the real one.
    fn decide(&mut self, call: &str) -> Outcome<()> {
        let (before, events, disk) = (self.differences().len(), self.events.len(), self.disk.clone());
        let call = call.trim_end().trim_end_matches(')');
        let answer = if call.starts_with("write(") || call.starts_with("pwrite64(") {
            call.split(", ").nth(2).unwrap_or_default()
        } else {
            "0"
        };
        self.ended(0, &format!("{call}) = {answer}"))?;
        if self.differences().len() >= before {
            *self.disk = disk;
            self.events.truncate(events);
        }
        Ok(())
    }

    /// Names that do not stand for the same here as in the real directory.
    fn differences(&self) -> Vec<String> {
        let rebuilt = self.disk.image(&self.disk.moment(), Cut::Killed);
        let mut real = Image::new();
        for entry in fs::read_dir(&self.dir).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if !is_unread(&name) {
                real.insert(name, fs::read(entry.path()).unwrap());
            }
        }
        let names = rebuilt.keys().chain(real.keys());
        let differ = names.filter(|name| rebuilt.get(*name) != real.get(*name));
        differ.cloned().collect()
    }

    fn line(&mut self, line: &str) -> Outcome<()> {
        let (thread, rest) = line.split_once(' ').ok_or("no thread")?;
        let thread: u32 = thread.parse().map_err(|_| "no thread")?;
        let rest = rest.trim_start();
        if rest.starts_with("---") || rest.starts_with("+++") {
            return Ok(());
        }
        if let Some(rest) = rest.strip_prefix("<... ") {
            let (_, end) = rest.split_once("resumed>").ok_or("resumes nothing")?;
            let begun = self.begun.remove(&thread).ok_or("resumes what has not begun")?;
            return self.ended(thread, &format!("{begun}{end}"));
        }
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            self.begins(thread, begun)?;
            self.begun.insert(thread, begun.to_owned());
            return Ok(());
        }
        self.begins(thread, rest)?;
        self.ended(thread, rest)
    }

    /// What counts from the beginning of a call.
    fn begins(&mut self, thread: u32, text: &str) -> Outcome<()> {
        let (name, arguments) = text.split_once('(').ok_or("no call")?;
        match name {
            // A descriptor may be used anew by another thread before this call is seen to end.
            "close" => {
                self.descriptors.remove(&descriptor(arguments)?);
            }
            "fsync" | "fdatasync" => match self.descriptors.get(&descriptor(arguments)?) {
                Some(Descriptor::File { file, .. }) => {
                    let file = Some(*file);
                    self.saving.insert(thread, (file, self.disk.extent(file)));
                }
                Some(Descriptor::Directory) => {
                    self.saving.insert(thread, (None, self.disk.extent(None)));
                }
                Some(Descriptor::Unread | Descriptor::Marks) | None => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn ended(&mut self, thread: u32, text: &str) -> Outcome<()> {
        let saved = self.saving.remove(&thread);
        if let Some(call) = text.strip_suffix(" = ?") {
            self.doubtful.push(call.to_owned());
            return Ok(());
        }
        let call = parse(text)?;
        if call.answer < 0 {
            return match saved {
                Some(_) => Err("a sync failed".to_owned()),
                None => Ok(()),
            };
        }
        match call.name {
            "openat" => self.opened(&call),
            "write" => self.wrote(&call, None),
            "pwrite64" => self.wrote(&call, Some(number(call.arguments.get(3))?)),
            "fsync" | "fdatasync" => {
                if let Some((file, extent)) = saved {
                    self.disk.save(file, extent);
                    self.boundary();
                }
                Ok(())
            }
            "rename" => self.renamed(&call),
            "unlink" => self.removed(call.arguments.first()),
            "ftruncate" => self.resized(&call),
            "fallocate" if call.arguments.get(1) == Some(&"FALLOC_FL_KEEP_SIZE") => Ok(()),
            "fcntl" if !call.arguments.get(1).is_some_and(|what| what.starts_with("F_DUPFD")) => Ok(()),
            "close" | "sync_file_range" | "mkdir" => Ok(()),
            "mmap" if !call.arguments.get(3).is_some_and(|how| how.contains("MAP_SHARED")) => Ok(()),
            _ => self.harmless(&call),
        }
    }

    /// A call that has no meaning here must be about something else.
    fn harmless(&self, call: &Call<'_>) -> Outcome<()> {
        let ours = |argument: &&str| {
            let path = text(argument).is_ok_and(|path| Path::new(&path).starts_with(&self.dir));
            let known = |number| matches!(self.descriptors.get(&number), Some(Descriptor::File { .. }));
            path || argument.parse().is_ok_and(known)
        };
        let all = ["sync", "syncfs", "io_uring_setup", "io_setup"].contains(&call.name);
        if all || call.arguments.iter().any(ours) {
            return Err(format!("cannot tell what `{}` does to the directory", call.name));
        }
        Ok(())
    }

    fn boundary(&mut self) {
        self.events.push(Event::Boundary(self.disk.moment()));
    }

    /// The name in the directory that a path means.
    fn name_of(&self, argument: Option<&&str>) -> Outcome<Option<String>> {
        let path = PathBuf::from(text(argument.ok_or("no path")?)?);
        let Ok(name) = path.strip_prefix(&self.dir) else {
            return Ok(None);
        };
        let name = name.to_str().ok_or("a name that is no text")?;
        if name.contains('/') {
            return Err(format!("a directory within the directory: {name}"));
        }
        Ok(Some(name.to_owned()))
    }

    fn opened(&mut self, call: &Call<'_>) -> Outcome<()> {
        let number = u32::try_from(call.answer).map_err(|_| "no descriptor")?;
        let (path, how) = (call.arguments.get(1), *call.arguments.get(2).ok_or("no flags")?);
        if Path::new(&text(path.ok_or("no path")?)?) == self.marks {
            self.descriptors.insert(number, Descriptor::Marks);
            return Ok(());
        }
        let Some(name) = self.name_of(path)? else {
            return Ok(());
        };
        let descriptor = if name.is_empty() {
            Descriptor::Directory
        } else if is_unread(&name) {
            Descriptor::Unread
        } else {
            self.opened_file(name, how)?
        };
        self.descriptors.insert(number, descriptor);
        Ok(())
    }

    fn opened_file(&mut self, name: String, how: &str) -> Outcome<Descriptor> {
        let file = match self.disk.lookup(&name) {
            Some(file) => {
                if how.contains("O_TRUNC") && self.disk.length(file) > 0 {
                    self.disk.change(file, Change::Resize(0));
                    self.boundary();
                }
                file
            }
            None if how.contains("O_CREAT") => {
                let file = self.disk.make(name);
                self.boundary();
                file
            }
            None => return Err(format!("opens {name}, which nobody has made")),
        };
        let appends = how.contains("O_APPEND");
        let position = if appends { self.disk.length(file) } else { 0 };
        Ok(Descriptor::File { file, position })
    }

    fn wrote(&mut self, call: &Call<'_>, at: Option<usize>) -> Outcome<()> {
        let number = descriptor(call.arguments.first().ok_or("no descriptor")?)?;
        let Some(descriptor) = self.descriptors.get_mut(&number) else {
            return Ok(());
        };
        let bytes = || -> Outcome<Vec<u8>> {
            let mut bytes = bytes(call.arguments.get(1).ok_or("no bytes")?)?;
            let written = usize::try_from(call.answer).map_err(|_| "no length")?;
            if bytes.len() < written {
                return Err("the trace leaves bytes out".to_owned());
            }
            bytes.truncate(written);
            Ok(bytes)
        };
        match descriptor {
            Descriptor::Marks => {
                let line = String::from_utf8(bytes()?).map_err(|_| "a mark that is no text")?;
                self.events.push(Event::Mark(line.trim_end().to_owned()));
            }
            Descriptor::File { file, position } => {
                let (file, bytes) = (*file, bytes()?);
                let offset = at.unwrap_or(*position);
                if at.is_none() {
                    *position += bytes.len();
                }
                self.disk.change(file, Change::Write { offset, bytes });
                self.boundary();
            }
            Descriptor::Unread | Descriptor::Directory => {}
        }
        Ok(())
    }

    fn resized(&mut self, call: &Call<'_>) -> Outcome<()> {
        let number = descriptor(call.arguments.first().ok_or("no descriptor")?)?;
        let length = self::number(call.arguments.get(1))?;
        let Some(Descriptor::File { file, .. }) = self.descriptors.get(&number) else {
            return Ok(());
        };
        // RocksDB gives back what it had reserved beyond the end.
        if self.disk.length(*file) != length {
            self.disk.change(*file, Change::Resize(length));
            self.boundary();
        }
        Ok(())
    }

    fn renamed(&mut self, call: &Call<'_>) -> Outcome<()> {
        let from = self.name_of(call.arguments.first())?;
        let to = self.name_of(call.arguments.get(1))?;
        match (from, to) {
            (Some(from), Some(to)) if is_unread(&from) && is_unread(&to) => {}
            (Some(from), Some(to)) => {
                self.disk.name(Naming::Rename { from, to });
                self.boundary();
            }
            (None, None) => {}
            _ => return Err("a file moves in or out".to_owned()),
        }
        Ok(())
    }

    fn removed(&mut self, path: Option<&&str>) -> Outcome<()> {
        if let Some(name) = self.name_of(path)?.filter(|name| !is_unread(name)) {
            self.disk.name(Naming::Remove { name });
            self.boundary();
        }
        Ok(())
    }
}

/// Files that RocksDB writes but never reads: its messages, its lock.
fn is_unread(name: &str) -> bool {
    name == "LOCK" || name == "LOG" || name.starts_with("LOG.old.")
}

fn parse(line: &str) -> Outcome<Call<'_>> {
    let (name, rest) = line.split_once('(').ok_or("no call")?;
    let (arguments, answer) = rest.rsplit_once(" = ").ok_or("no answer")?;
    let arguments = arguments.trim_end().strip_suffix(')').ok_or("no end of the call")?;
    let answer = answer.split(' ').next().unwrap_or_default();
    let answer = match answer.strip_prefix("0x") {
        Some(answer) => i64::from_str_radix(answer, 16).unwrap_or(0),
        None => answer.parse().map_err(|_| "no answer")?,
    };
    // All text is in hexadecimal digits, so that no comma stands in it.
    let arguments = arguments.split(", ").collect();
    Ok(Call {
        name,
        arguments,
        answer,
    })
}

fn descriptor(argument: &str) -> Outcome<u32> {
    let digits: String = argument.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| "no descriptor".to_owned())
}

fn number(argument: Option<&&str>) -> Outcome<usize> {
    argument
        .and_then(|argument| argument.parse().ok())
        .ok_or_else(|| "no number".to_owned())
}

/// Bytes in the form `"\x00\x01"`.
fn bytes(argument: &str) -> Outcome<Vec<u8>> {
    let quoted = argument
        .strip_prefix('"')
        .and_then(|argument| argument.strip_suffix('"'));
    let text = quoted.ok_or("bytes that are not all there")?;
    hex::decode(text.replace("\\x", "")).map_err(|error| error.to_string())
}

fn text(argument: &str) -> Outcome<String> {
    String::from_utf8(bytes(argument)?).map_err(|error| error.to_string())
}
