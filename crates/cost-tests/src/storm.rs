//! Many VMs that live at the same time, as a toolstack sees them: the work by which Xenstore servers have been compared since 2009.
//!
//! The shape is that of Mirage's `bench/bench.ml`, the requests are our own: for each VM two
//! transactions that make its directories, single writes about the machine, three disks of one transaction each, then a shutdown and
//! an end of many single requests. Every VM has a client of its own, and one request of one of them follows one of another, so that
//! as many transactions are open as there are VMs. [`life_of`] is the script of one VM, for whoever has other clients to play it on.

use xenstore_wire::MessageType::{self, Directory, Mkdir, Read, Rm, SetPerms, TransactionEnd, TransactionStart, Write};

use crate::desk::{Client, Desk};
use crate::dice::Dice;

/// Disks of a VM.
const DISKS: usize = 3;

/// One request of a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What is asked.
    pub kind: MessageType,
    /// The payload, with `|` for each NUL.
    pub payload: String,
    /// Belongs to the transaction that the last TRANSACTION_START of the script opened.
    pub inside: bool,
    /// ENOENT is an answer, too: what is cleared may not be there.
    pub may_be_missing: bool,
}

/// What came of a storm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Requests that were sent.
    pub requests: usize,
    /// Requests that there would be if nothing had to be done twice.
    pub minimum: usize,
    /// Transactions that were answered EAGAIN, and done again.
    pub conflicts: usize,
    /// The most transactions that were open at a time.
    pub at_once: usize,
}

#[derive(Default)]
struct Script {
    steps: Vec<Step>,
    inside: bool,
}

impl Script {
    fn add(&mut self, kind: MessageType, payload: String) {
        self.steps.push(Step {
            kind,
            payload,
            inside: self.inside,
            may_be_missing: kind == Rm,
        });
    }

    fn transaction(&mut self, fill: impl FnOnce(&mut Self)) {
        self.add(TransactionStart, "|".into());
        self.inside = true;
        fill(self);
        self.add(TransactionEnd, "T|".into());
        self.inside = false;
    }

    /// A directory that belongs to `owner` and that `reader` may read.
    fn directory(&mut self, path: &str, owner: usize, reader: usize) {
        self.add(Mkdir, format!("{path}|"));
        self.add(SetPerms, format!("{path}|n{owner}|r{reader}|"));
    }

    fn values(&mut self, directory: &str, values: &[(&str, &str)]) {
        for (name, value) in values {
            self.add(Write, format!("{directory}/{name}|{value}"));
        }
    }
}

/// Everything that is asked for one VM, from its creation to its end.
pub fn life_of(vm: usize) -> Vec<Step> {
    let mut script = Script::default();
    make(&mut script, vm);
    for disk in 0..DISKS {
        plug(&mut script, vm, disk);
    }
    shut_down(&mut script, vm);
    for disk in 0..DISKS {
        unplug(&mut script, vm, disk);
    }
    for path in [home(vm), format!("/vm/{vm:08}"), format!("/vss/{vm:08}")] {
        script.add(Rm, format!("{path}|"));
    }
    script.steps
}

/// The domain that a VM is.
pub fn domid_of(vm: usize) -> usize {
    vm + 1
}

fn home(vm: usize) -> String {
    format!("/local/domain/{}", domid_of(vm))
}

fn make(script: &mut Script, vm: usize) {
    let (home, domid) = (home(vm), domid_of(vm));
    let about = [format!("/vm/{vm:08}"), format!("/vss/{vm:08}")];
    script.transaction(|script| {
        script.add(Rm, format!("{home}|"));
        script.directory(&home, domid, 0);
        for path in &about {
            script.add(Rm, format!("{path}|"));
            script.directory(path, 0, domid);
        }
        let names = [("vm", about[0].as_str()), ("vss", &about[1]), ("name", "a machine")];
        script.values(&home, &names);
    });
    script.transaction(|script| {
        for path in ["cpu", "memory"] {
            script.directory(&format!("{home}/{path}"), 0, domid);
        }
        for path in [
            "device", "error", "drivers", "control", "attr", "data", "messages", "store",
        ] {
            script.directory(&format!("{home}/{path}"), domid, 0);
        }
    });
    script.values(
        &about[0],
        &[("name", "a machine"), ("uuid", "0-1-2-3"), ("rtc/timeoffset", "0")],
    );
    let platform = [
        ("acpi", "1"),
        ("apic", "1"),
        ("nx", "1"),
        ("pae", "1"),
        ("vga", "std"),
        ("viridian", "1"),
    ];
    script.values(&format!("{home}/platform"), &platform);
    let strings = [
        ("bios-vendor", "Xen"),
        ("system-product-name", "HVM domU"),
        ("hp-oem", "Xen"),
    ];
    script.values(&format!("{home}/bios-strings"), &strings);
    script.values(
        &home,
        &[
            ("memory/target", "262144"),
            ("store/port", "1"),
            ("action-request", "poweron"),
        ],
    );
}

fn places_of(vm: usize, disk: usize) -> [(String, bool); 4] {
    let (device, domid) = (51712 + 16 * disk, domid_of(vm));
    [
        (format!("{}/device/vbd/{device}", home(vm)), true),
        (format!("/local/domain/0/backend/vbd/{domid}/{device}"), false),
        (format!("/libxl/{domid}/hotplug/{device}"), false),
        (format!("/libxl/{domid}/private/{device}"), false),
    ]
}

fn plug(script: &mut Script, vm: usize, disk: usize) {
    let places = places_of(vm, disk);
    script.transaction(|script| {
        for (path, guests) in &places {
            let (owner, reader) = if *guests { (domid_of(vm), 0) } else { (0, domid_of(vm)) };
            script.add(Rm, format!("{path}|"));
            script.directory(path, owner, reader);
        }
        let [(frontend, _), (backend, _), (hotplug, _), (private, _)] = &places;
        script.values(
            frontend,
            &[
                ("backend", backend),
                ("backend-id", "0"),
                ("state", "1"),
                ("device-type", "disk"),
            ],
        );
        let said = [
            ("frontend", frontend.as_str()),
            ("online", "1"),
            ("state", "1"),
            ("params", "/dev/sda"),
            ("mode", "w"),
        ];
        script.values(backend, &said);
        script.values(hotplug, &[("status", "connected")]);
        script.values(private, &[("kind", "vbd"), ("id", "0")]);
    });
}

fn shut_down(script: &mut Script, vm: usize) {
    let home = home(vm);
    script.values(&home, &[("control/shutdown", "poweroff")]);
    script.add(Read, format!("{home}/control/shutdown|"));
    script.add(Directory, format!("{home}/device/vbd|"));
}

fn unplug(script: &mut Script, vm: usize, disk: usize) {
    let places = places_of(vm, disk);
    let [(frontend, _), (backend, _), ..] = &places;
    script.add(Read, format!("{frontend}/backend|"));
    script.values(backend, &[("online", "0"), ("state", "5")]);
    script.add(Read, format!("{backend}/state|"));
    script.values(frontend, &[("state", "6")]);
    for (path, _) in &places {
        script.add(Rm, format!("{path}|"));
    }
}

/// One VM that is under way.
struct Machine {
    client: Client,
    script: Vec<Step>,
    at: usize,
    transaction: u32,
    /// Where its open transaction began.
    began: usize,
}

/// Lets so many VMs live at the same time; the seed says whose request is next.
pub fn storm(desk: &mut Desk, vms: usize, seed: u64) -> Outcome {
    let mut dice = Dice::new(seed);
    let mut living: Vec<Machine> = Vec::new();
    for vm in 0..vms {
        desk.build(domid_of(vm) as u16);
        living.push(Machine {
            client: desk.dom0(),
            script: life_of(vm),
            at: 0,
            transaction: 0,
            began: 0,
        });
    }
    let mut outcome = Outcome {
        requests: 0,
        minimum: living.iter().map(|vm| vm.script.len()).sum(),
        conflicts: 0,
        at_once: 0,
    };
    let mut open = 0;
    while !living.is_empty() {
        let turn = dice.below(living.len());
        let vm = &mut living[turn];
        let kind = vm.script[vm.at].kind;
        outcome.requests += 1;
        if !vm.go_on(desk) {
            outcome.conflicts += 1;
        }
        open += usize::from(kind == TransactionStart);
        open -= usize::from(kind == TransactionEnd);
        outcome.at_once = outcome.at_once.max(open);
        if vm.at == vm.script.len() {
            living.swap_remove(turn);
        }
    }
    outcome
}

impl Machine {
    /// The next request. False if its transaction must be done again.
    fn go_on(&mut self, desk: &mut Desk) -> bool {
        let step = &self.script[self.at];
        let transaction = if step.inside { self.transaction } else { 0 };
        let payload = step.payload.replace('|', "\0");
        let answer = desk.ask(self.client, step.kind, transaction, payload.as_bytes());
        let text = answer.text();
        if answer.kind == MessageType::Error && text == "EAGAIN|" {
            self.at = self.began;
            return false;
        }
        let fine = answer.kind == step.kind || (step.may_be_missing && text == "ENOENT|");
        assert!(fine, "{step:?} was answered {text}");
        if step.kind == TransactionStart {
            self.began = self.at;
            self.transaction = text.trim_end_matches('|').parse().unwrap_or_default();
        }
        self.at += 1;
        true
    }
}
