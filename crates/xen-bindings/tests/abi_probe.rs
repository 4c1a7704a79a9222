//! Compares the hand-written ABI with what a C compiler sees in the installed Xen headers (`libxen-dev`, any release from 4.17 on).
//!
//! The probe is one C program, made from the tables below, that prints every size, offset and constant with its name. A missing
//! compiler or missing headers is a failure, not a skip: an ABI that nobody compared is not known to be right.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::Command;
use xen_bindings::abi;

/// What our side says, by the C expression that must give the same number.
struct Expectations {
    values: Vec<(String, u64)>,
}

impl Expectations {
    fn constant(&mut self, c: &str, value: u64) {
        self.values.push((c.to_owned(), value));
    }

    fn size(&mut self, c: &str, value: usize) {
        self.values.push((format!("sizeof({c})"), value as u64));
    }

    fn offset(&mut self, c: &str, field: &str, value: usize) {
        self.values.push((format!("offsetof({c}, {field})"), value as u64));
    }
}

/// `layout!(expectations, "C type", Rust type, whole|head, { "C field" = rust_field, … })`; `head`: our structure is the C structure's beginning.
macro_rules! layout {
    ($out:expr, $c:literal, $rust:ty, whole, { $($field:literal = $($ours:ident).+),* $(,)? }) => {
        $out.size($c, size_of::<$rust>());
        layout!($out, $c, $rust, head, { $($field = $($ours).+),* });
    };
    ($out:expr, $c:literal, $rust:ty, head, { $($field:literal = $($ours:ident).+),* $(,)? }) => {
        $($out.offset($c, $field, offset_of!($rust, $($ours).+));)*
    };
}

fn start_layouts(out: &mut Expectations) {
    use abi::boot::{HvmStartInfo, StartInfo};
    layout!(out, "struct start_info", StartInfo, whole, {
        "magic" = magic, "nr_pages" = nr_pages, "shared_info" = shared_info, "flags" = flags, "store_mfn" = store_mfn,
        "store_evtchn" = store_evtchn, "console.domU.mfn" = console_mfn, "console.domU.evtchn" = console_evtchn,
        "pt_base" = pt_base, "nr_pt_frames" = nr_pt_frames, "mfn_list" = mfn_list, "mod_start" = mod_start,
        "mod_len" = mod_len, "cmd_line" = cmd_line, "first_p2m_pfn" = first_p2m_pfn, "nr_p2m_frames" = nr_p2m_frames,
    });
    layout!(out, "struct hvm_start_info", HvmStartInfo, whole, {
        "magic" = magic, "version" = version, "flags" = flags, "nr_modules" = nr_modules, "modlist_paddr" = modlist_paddr,
        "cmdline_paddr" = cmdline_paddr, "rsdp_paddr" = rsdp_paddr, "memmap_paddr" = memmap_paddr,
        "memmap_entries" = memmap_entries, "reserved" = reserved,
    });
    out.constant("MAX_GUEST_CMDLINE", abi::boot::MAX_GUEST_CMDLINE as u64);
    out.constant("XEN_HVM_START_MAGIC_VALUE", u64::from(abi::boot::HVM_START_MAGIC));
}

fn shared_layouts(out: &mut Expectations) {
    use abi::console::XenconsInterface;
    use abi::shared::{ArchSharedInfo, ArchVcpuInfo, SharedInfo, VcpuInfo, VcpuTimeInfo};
    layout!(out, "struct vcpu_time_info", VcpuTimeInfo, whole, {
        "version" = version, "tsc_timestamp" = tsc_timestamp, "system_time" = system_time,
        "tsc_to_system_mul" = tsc_to_system_mul, "tsc_shift" = tsc_shift, "flags" = flags,
    });
    layout!(out, "struct arch_vcpu_info", ArchVcpuInfo, whole, { "cr2" = cr2 });
    layout!(out, "struct vcpu_info", VcpuInfo, whole, {
        "evtchn_upcall_pending" = evtchn_upcall_pending, "evtchn_upcall_mask" = evtchn_upcall_mask,
        "evtchn_pending_sel" = evtchn_pending_sel, "arch" = arch, "time" = time,
    });
    layout!(out, "struct arch_shared_info", ArchSharedInfo, whole, { "max_pfn" = max_pfn, "nmi_reason" = nmi_reason });
    layout!(out, "struct shared_info", SharedInfo, whole, {
        "vcpu_info" = vcpu_info, "evtchn_pending" = evtchn_pending, "evtchn_mask" = evtchn_mask, "wc_version" = wc_version,
        "wc_sec" = wc_sec, "wc_nsec" = wc_nsec, "wc_sec_hi" = wc_sec_hi, "arch" = arch,
    });
    layout!(out, "struct xencons_interface", XenconsInterface, head, {
        "in" = input, "out" = output, "in_cons" = in_cons, "in_prod" = in_prod, "out_cons" = out_cons, "out_prod" = out_prod,
    });
    out.constant("XEN_LEGACY_MAX_VCPUS", abi::shared::XEN_LEGACY_MAX_VCPUS as u64);
    out.constant("EVTCHN_2L_NR_CHANNELS", u64::from(abi::shared::EVTCHN_2L_NR_CHANNELS));
    out.constant(
        "sizeof(((struct xencons_interface *)0)->in)",
        abi::console::IN_SIZE as u64,
    );
    out.constant(
        "sizeof(((struct xencons_interface *)0)->out)",
        abi::console::OUT_SIZE as u64,
    );
}

fn event_layouts(out: &mut Expectations) {
    use abi::event::*;
    layout!(out, "struct evtchn_bind_interdomain", EvtchnBindInterdomain, whole, {
        "remote_dom" = remote_dom, "remote_port" = remote_port, "local_port" = local_port,
    });
    layout!(out, "struct evtchn_bind_virq", EvtchnBindVirq, whole, { "virq" = virq, "vcpu" = vcpu, "port" = port });
    layout!(out, "struct evtchn_alloc_unbound", EvtchnAllocUnbound, whole, { "dom" = dom, "remote_dom" = remote_dom, "port" = port });
    layout!(out, "struct evtchn_send", EvtchnPort, whole, { "port" = port });
    layout!(out, "struct evtchn_close", EvtchnPort, whole, { "port" = port });
    layout!(out, "struct evtchn_status", EvtchnStatus, whole, {
        "dom" = dom, "port" = port, "status" = status, "vcpu" = vcpu, "u.unbound.dom" = u_first, "u.interdomain.dom" = u_first,
        "u.virq" = u_first, "u.interdomain.port" = u_second,
    });
    for (name, value) in [
        ("bind_interdomain", EVTCHNOP_BIND_INTERDOMAIN),
        ("bind_virq", EVTCHNOP_BIND_VIRQ),
        ("close", EVTCHNOP_CLOSE),
        ("send", EVTCHNOP_SEND),
        ("status", EVTCHNOP_STATUS),
        ("alloc_unbound", EVTCHNOP_ALLOC_UNBOUND),
    ] {
        out.constant(&format!("EVTCHNOP_{name}"), value);
    }
    for (name, value) in [
        ("closed", EVTCHNSTAT_CLOSED),
        ("unbound", EVTCHNSTAT_UNBOUND),
        ("interdomain", EVTCHNSTAT_INTERDOMAIN),
        ("virq", EVTCHNSTAT_VIRQ),
    ] {
        out.constant(&format!("EVTCHNSTAT_{name}"), u64::from(value));
    }
}

fn grant_layouts(out: &mut Expectations) {
    use abi::grant::*;
    layout!(out, "struct gnttab_map_grant_ref", GnttabMapGrantRef, whole, {
        "host_addr" = host_addr, "flags" = flags, "ref" = gref, "dom" = dom, "status" = status, "handle" = handle,
        "dev_bus_addr" = dev_bus_addr,
    });
    layout!(out, "struct gnttab_unmap_grant_ref", GnttabUnmapGrantRef, whole, {
        "host_addr" = host_addr, "dev_bus_addr" = dev_bus_addr, "handle" = handle, "status" = status,
    });
    out.constant("GNTTABOP_map_grant_ref", GNTTABOP_MAP_GRANT_REF);
    out.constant("GNTTABOP_unmap_grant_ref", GNTTABOP_UNMAP_GRANT_REF);
    out.constant("GNTMAP_host_map", u64::from(GNTMAP_HOST_MAP));
    for (name, value) in [
        ("okay", GNTST_OKAY),
        ("general_error", GNTST_GENERAL_ERROR),
        ("bad_domain", GNTST_BAD_DOMAIN),
        ("bad_gntref", GNTST_BAD_GNTREF),
        ("bad_handle", GNTST_BAD_HANDLE),
        ("no_device_space", GNTST_NO_DEVICE_SPACE),
        ("permission_denied", GNTST_PERMISSION_DENIED),
        ("bad_page", GNTST_BAD_PAGE),
        ("eagain", GNTST_EAGAIN),
        ("no_space", GNTST_NO_SPACE),
    ] {
        out.constant(&format!("GNTST_{name}"), i64::from(value) as u64);
    }
}

fn memory_layouts(out: &mut Expectations) {
    use abi::memory::*;
    layout!(out, "struct xen_memory_reservation", XenMemoryReservation, whole, {
        "extent_start" = extent_start, "nr_extents" = nr_extents, "extent_order" = extent_order, "mem_flags" = mem_flags,
        "domid" = domid,
    });
    layout!(out, "struct xen_memory_map", XenMemoryMap, whole, { "nr_entries" = nr_entries, "buffer" = buffer });
    layout!(out, "struct xen_add_to_physmap", XenAddToPhysmap, whole, {
        "domid" = domid, "size" = size, "space" = space, "idx" = idx, "gpfn" = gpfn,
    });
    for (name, value) in [
        ("current_reservation", XENMEM_CURRENT_RESERVATION),
        ("maximum_reservation", XENMEM_MAXIMUM_RESERVATION),
        ("populate_physmap", XENMEM_POPULATE_PHYSMAP),
        ("add_to_physmap", XENMEM_ADD_TO_PHYSMAP),
        ("memory_map", XENMEM_MEMORY_MAP),
    ] {
        out.constant(&format!("XENMEM_{name}"), value);
    }
    out.constant("XENMAPSPACE_shared_info", u64::from(XENMAPSPACE_SHARED_INFO));
    out.constant("XEN_HVM_MEMMAP_TYPE_RAM", u64::from(XEN_HVM_MEMMAP_TYPE_RAM));
}

fn paging_and_run_state_layouts(out: &mut Expectations) {
    use abi::paging::*;
    use abi::sched::*;
    layout!(out, "struct mmu_update", MmuUpdate, whole, { "ptr" = ptr, "val" = val });
    layout!(out, "struct trap_info", TrapInfo, whole, { "vector" = vector, "flags" = flags, "cs" = cs, "address" = address });
    layout!(out, "struct sched_shutdown", SchedShutdown, whole, {
        "reason" = reason
    });
    layout!(out, "struct sched_remote_shutdown", SchedRemoteShutdown, whole, { "domain_id" = domain_id, "reason" = reason });
    out.constant("MMU_NORMAL_PT_UPDATE", MMU_NORMAL_PT_UPDATE);
    out.constant("UVMF_INVLPG|UVMF_LOCAL", UVMF_INVLPG);
    out.constant("FLAT_KERNEL_CS", u64::from(FLAT_KERNEL_CS));
    out.constant("SCHEDOP_yield", SCHEDOP_YIELD);
    out.constant("SCHEDOP_block", SCHEDOP_BLOCK);
    out.constant("SCHEDOP_shutdown", SCHEDOP_SHUTDOWN);
    out.constant("SHUTDOWN_poweroff", u64::from(SHUTDOWN_POWEROFF));
    out.constant("SHUTDOWN_reboot", u64::from(SHUTDOWN_REBOOT));
    out.constant("SCHEDOP_remote_shutdown", SCHEDOP_REMOTE_SHUTDOWN);
    out.constant("SHUTDOWN_suspend", u64::from(SHUTDOWN_SUSPEND));
    out.constant("SHUTDOWN_crash", u64::from(SHUTDOWN_CRASH));
    out.constant("SHUTDOWN_watchdog", u64::from(SHUTDOWN_WATCHDOG));
    out.constant("SHUTDOWN_soft_reset", u64::from(SHUTDOWN_SOFT_RESET));
}

fn hvm_and_control_layouts(out: &mut Expectations) {
    use abi::domctl::*;
    use abi::hvm::*;
    layout!(out, "struct xen_hvm_param", XenHvmParam, whole, { "domid" = domid, "index" = index, "value" = value });
    out.constant("HVMOP_set_param", HVMOP_SET_PARAM);
    out.constant("HVMOP_get_param", HVMOP_GET_PARAM);
    out.constant("HVM_PARAM_CALLBACK_TYPE_VECTOR", HVM_CALLBACK_TYPE_VECTOR);
    for (name, value) in [
        ("CALLBACK_IRQ", HVM_PARAM_CALLBACK_IRQ),
        ("STORE_PFN", HVM_PARAM_STORE_PFN),
        ("STORE_EVTCHN", HVM_PARAM_STORE_EVTCHN),
        ("CONSOLE_PFN", HVM_PARAM_CONSOLE_PFN),
        ("CONSOLE_EVTCHN", HVM_PARAM_CONSOLE_EVTCHN),
    ] {
        out.constant(&format!("HVM_PARAM_{name}"), u64::from(value));
    }
    layout!(out, "struct xen_domctl", Domctl, whole, {
        "cmd" = cmd, "interface_version" = interface_version, "domain" = domain, "u" = u,
    });
    layout!(out, "struct xen_domctl_getdomaininfo", GetDomainInfoHead, head, { "domain" = domain, "flags" = flags });
    out.constant("XEN_DOMCTL_getdomaininfo", u64::from(XEN_DOMCTL_GETDOMAININFO));
    out.constant("XEN_DOMCTL_destroydomain", u64::from(XEN_DOMCTL_DESTROYDOMAIN));
    out.constant("XEN_DOMCTL_getvcpucontext", u64::from(XEN_DOMCTL_GETVCPUCONTEXT));
    layout!(out, "struct xen_domctl_vcpucontext", GetVcpuContext, whole, { "vcpu" = vcpu, "ctxt" = ctxt });
    out.constant("XEN_DOMINF_dying", u64::from(XEN_DOMINF_DYING));
    out.constant("XEN_DOMINF_hvm_guest", u64::from(XEN_DOMINF_HVM_GUEST));
    out.constant("XEN_DOMINF_shutdownshift", u64::from(XEN_DOMINF_SHUTDOWNSHIFT));
    out.constant("XEN_DOMINF_shutdownmask", u64::from(XEN_DOMINF_SHUTDOWNMASK));
    out.constant("XEN_DOMINF_shutdown", u64::from(XEN_DOMINF_SHUTDOWN));
    out.constant("XEN_DOMINF_xs_domain", u64::from(XEN_DOMINF_XS_DOMAIN));
}

fn dom0_layouts(out: &mut Expectations) {
    use abi::privcmd::*;
    use abi::vcpu::*;
    layout!(out, "struct cpu_user_regs", CpuUserRegs, whole, {
        "r15" = r15, "r14" = r14, "r13" = r13, "r12" = r12, "rbp" = rbp, "rbx" = rbx, "r11" = r11, "r10" = r10, "r9" = r9,
        "r8" = r8, "rax" = rax, "rcx" = rcx, "rdx" = rdx, "rsi" = rsi, "rdi" = rdi, "error_code" = error_code,
        "entry_vector" = entry_vector, "rip" = rip, "cs" = cs, "saved_upcall_mask" = saved_upcall_mask, "rflags" = rflags,
        "rsp" = rsp, "ss" = ss, "es" = es, "ds" = ds, "fs" = fs, "gs" = gs,
    });
    layout!(out, "struct vcpu_guest_context", VcpuGuestContext, whole, {
        "fpu_ctxt" = fpu_ctxt, "flags" = flags, "user_regs" = user_regs, "trap_ctxt" = trap_ctxt, "ctrlreg" = ctrlreg,
        "debugreg" = debugreg, "vm_assist" = vm_assist, "fs_base" = fs_base, "gs_base_kernel" = gs_base_kernel,
        "gs_base_user" = gs_base_user,
    });
    layout!(out, "struct privcmd_hypercall", PrivcmdHypercall, whole, { "op" = op, "arg" = arg });
    layout!(out, "struct privcmd_mmapbatch_v2", PrivcmdMmapbatchV2, whole, {
        "num" = num, "dom" = dom, "addr" = addr, "arr" = arr, "err" = err,
    });
    out.constant("IOCTL_PRIVCMD_HYPERCALL", IOCTL_PRIVCMD_HYPERCALL);
    out.constant("IOCTL_PRIVCMD_MMAPBATCH_V2", IOCTL_PRIVCMD_MMAPBATCH_V2);
}

fn numbers(out: &mut Expectations) {
    use abi::numbers::*;
    for (name, value) in [
        ("set_trap_table", hypercall::SET_TRAP_TABLE),
        ("mmu_update", hypercall::MMU_UPDATE),
        ("set_callbacks", hypercall::SET_CALLBACKS),
        ("memory_op", hypercall::MEMORY_OP),
        ("update_va_mapping", hypercall::UPDATE_VA_MAPPING),
        ("set_timer_op", hypercall::SET_TIMER_OP),
        ("xen_version", hypercall::XEN_VERSION),
        ("console_io", hypercall::CONSOLE_IO),
        ("grant_table_op", hypercall::GRANT_TABLE_OP),
        ("sched_op", hypercall::SCHED_OP),
        ("event_channel_op", hypercall::EVENT_CHANNEL_OP),
        ("hvm_op", hypercall::HVM_OP),
        ("domctl", hypercall::DOMCTL),
    ] {
        out.constant(&format!("__HYPERVISOR_{name}"), u64::from(value));
    }
    out.constant("DOMID_SELF", u64::from(DOMID_SELF));
    out.constant("DOMID_INVALID", u64::from(DOMID_INVALID));
    out.constant("DOMID_FIRST_RESERVED", u64::from(DOMID_FIRST_RESERVED));
    out.constant("VIRQ_TIMER", u64::from(VIRQ_TIMER));
    out.constant("VIRQ_DOM_EXC", u64::from(VIRQ_DOM_EXC));
    out.constant("XENVER_version", XENVER_VERSION);
    out.constant("CONSOLEIO_write", CONSOLEIO_WRITE);
    out.constant("XEN_CPUID_FIRST_LEAF", u64::from(XEN_CPUID_FIRST_LEAF));
    out.constant("SIF_PRIVILEGED", u64::from(SIF_PRIVILEGED));
    out.constant("SIF_INITDOMAIN", u64::from(SIF_INITDOMAIN));
}

fn expectations() -> Expectations {
    let mut out = Expectations { values: Vec::new() };
    for part in [
        start_layouts,
        shared_layouts,
        event_layouts,
        grant_layouts,
        memory_layouts,
        paging_and_run_state_layouts,
        hvm_and_control_layouts,
        dom0_layouts,
        numbers,
    ] {
        part(&mut out);
    }
    out
}

const HEADERS: &str = "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <xen/xen.h>\n#include <xen/version.h>\n\
    #include <xen/sched.h>\n#include <xen/memory.h>\n#include <xen/event_channel.h>\n#include <xen/grant_table.h>\n\
    #include <xen/hvm/hvm_op.h>\n#include <xen/hvm/params.h>\n#include <xen/arch-x86/hvm/start_info.h>\n\
    #include <xen/arch-x86/cpuid.h>\n#include <xen/io/console.h>\n#include <xen/domctl.h>\n\
    #include <sys/ioctl.h>\n#include <linux/types.h>\n#define __user\n#include <xen/sys/privcmd.h>\n";

/// What the C compiler sees, by expression.
fn compile_and_run(name: &str, expressions: &[(String, u64)]) -> BTreeMap<String, u64> {
    // The installed headers describe all interface versions; without this they would hide the newer half.
    let mut source =
        format!("#define __XEN_TOOLS__ 1\n#define __XEN_INTERFACE_VERSION__ 0x00040e00\n{HEADERS}int main(void) {{\n");
    for (expression, _) in expressions {
        writeln!(
            source,
            "  printf(\"%s = %llu\\n\", \"{expression}\", (unsigned long long)(long long)({expression}));"
        )
        .unwrap();
    }
    source.push_str("  return 0;\n}\n");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (file, program) = (
        folder.join(format!("abi_probe_{name}.c")),
        folder.join(format!("abi_probe_{name}")),
    );
    std::fs::write(&file, source).expect("the test's folder can be written to");
    let compiled = Command::new("cc").arg("-o").arg(&program).arg(&file).output();
    let compiled = compiled
        .unwrap_or_else(|error| panic!("no C compiler to compare the ABI with (`cc`: {error}); install gcc or clang"));
    assert!(
        compiled.status.success(),
        "the Xen headers are missing or cannot be compiled; install libxen-dev (4.17 or later):\n{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let ran = Command::new(&program)
        .output()
        .expect("a program that was compiled a moment ago");
    assert!(ran.status.success(), "the probe failed: {ran:?}");
    String::from_utf8(ran.stdout)
        .expect("digits and names")
        .lines()
        .map(|line| line.rsplit_once(" = ").expect("made by the format above"))
        .map(|(expression, value)| (expression.to_owned(), value.parse().expect("a number")))
        .collect()
}

#[test]
fn layouts_and_numbers_are_those_of_the_installed_headers() {
    let ours = expectations();
    let theirs = compile_and_run("whole", &ours.values);
    let different: Vec<String> = ours
        .values
        .iter()
        .filter(|(expression, value)| theirs.get(expression) != Some(value))
        .map(|(expression, value)| format!("{expression}: ours {value}, C's {:?}", theirs.get(expression)))
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(
        ours.values.len() > 180,
        "only {} comparisons are left",
        ours.values.len()
    );
}

#[test]
fn a_wrong_expectation_is_noticed() {
    let theirs = compile_and_run("one", &[("sizeof(struct shared_info)".to_owned(), 0)]);
    assert_eq!(
        theirs["sizeof(struct shared_info)"],
        size_of::<abi::shared::SharedInfo>() as u64
    );
}
