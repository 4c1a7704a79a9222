# Linux guests that can be told what to do: commands are typed on their consoles, and guest/client-init.sh runs them.

# Numbers the commands, so that an answer belongs to its command also behind a restart of anything.
COMMANDS=0

# client_guest NAME TYPE MEMORY: writes its configuration, /tmp/NAME.cfg.
client_guest() {
    cat >"/tmp/$1.cfg" <<CFG
name = "$1"
type = "$2"
kernel = "/bed/vmlinuz"
ramdisk = "/bed/client-initrd"
memory = $3
maxmem = $3
vcpus = 1
extra = "console=hvc0 quiet panic=1"
on_crash = "destroy"
CFG
}

# guest_types NAME LINE: through xenconsole and xenconsoled, as a person at `xl console` would. It ends with its input.
guest_types() {
    echo "$2" | timeout 30 xenconsole --interactive "$(xl domid "$1")" >/dev/null
}

guest_has_done() {
    grep -q "^@done $2 " "$(console_log "$1")"
}

# guest_does NAME SECONDS COMMAND: what it prints is printed and stands in /tmp/guest-said; its exit status is the status.
guest_does() {
    COMMANDS=$((COMMANDS + 1))
    SAID_BEFORE=$(wc -l <"$(console_log "$1")")
    echo "[$1] $3"
    guest_types "$1" "$COMMANDS $3"
    await "$2" guest_has_done "$1" "$COMMANDS"
    RESULT=$?
    tail -n +$((SAID_BEFORE + 1)) "$(console_log "$1")" | tr -d '\r' >/tmp/guest-said
    cat /tmp/guest-said
    [ "$RESULT" = 0 ] || because "$1 does not finish: $3" || return
    return "$(sed -n "s/^@done $COMMANDS //p" /tmp/guest-said)"
}

# guest_answers NAME TEXT COMMAND: the command works in the guest and prints the text as a line.
guest_answers() {
    guest_does "$1" 60 "$3" || because "in $1: $3: $(grep -v '^@done' /tmp/guest-said | tail -n 1)" || return
    grep -qxF -- "$2" /tmp/guest-said || because "in $1: $3 does not say $2"
}

# How often its userland has begun.
userlands() {
    grep -c '^guest-userland' "$(console_log "$1")" 2>/dev/null
}

has_begun() {
    [ "$(userlands "$1")" -ge "$2" ]
}

# userland_begins NAME COUNT: it is there for the COUNTth time.
userland_begins() {
    await 180 has_begun "$1" "$2" && return
    tail -n 20 "$(console_log "$1")"
    return 1
}

# What a domain could have left in the tree: anything with its number as a part of its path, and what is named by its UUID.
remains_of() {
    xenstore-ls -f | awk -v "id=$1" -v "uuid=$2" '
        { path = $1; count = split(path, part, "/")
          for (i = 2; i <= count; i++) if (part[i] == id || part[i] == uuid) { print; found = 1; next } }
        END { exit !found }'
}

nothing_remains_of() {
    ! remains_of "$1" "$2" >/tmp/remains
}

# leaves_nothing DOMID UUID: soon after its end.
leaves_nothing() {
    await 60 nothing_remains_of "$1" "$2" && return
    cat /tmp/remains
    WHY="of domain $1 there is left: $(head -n 1 /tmp/remains)"
    return 1
}

# look_at_store FOLDER: what must be the same again when all guests are gone.
look_at_store() {
    mkdir -p "$1"
    # libxl makes these folders with the first guest and leaves them; each guest's own are below them.
    xenstore-ls -f >/tmp/tree && grep -vxE '/(vm|libxl) = ""' /tmp/tree >"$1/tree" || return
    store_is_a_domain || return 0
    lsevtchn "$(xl domid Xenstore)" >"$1/event-channels" || return
    xenstore-control status >"$1/status" || return
    grep -E '^(connections|windows-in-use|watches|transactions):' "$1/status" >"$1/counts"
    [ "$(wc -l <"$1/counts")" -ge 2 ] || because "status says nothing about connections and windows"
}

same_as() {
    look_at_store /tmp/looked || return
    for what in tree event-channels counts; do
        [ -e "$1/$what" ] || continue
        diff "$1/$what" "/tmp/looked/$what" >/tmp/differs || return
    done
}

# store_is_as_in FOLDER
store_is_as_in() {
    await 30 same_as "$1" && return
    cat /tmp/differs
    WHY="$what differs: $(grep '^[-+<>][^-+]' /tmp/differs | head -n 1)"
    return 1
}

control_check() {
    expect OK xenstore-control check
}

# `check` answers OK also when it has repaired something; what it found stands on the console.
console_is_clean() {
    store_is_a_domain || return 0
    ! grep -iE 'is charged with|panic|corrupt|restart|does not verify' "$(console_log Xenstore)" || because "the store's console tells of trouble"
}
