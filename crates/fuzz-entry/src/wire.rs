//! Messages, paths and permission lists: any bytes are read without a panic, and what is read is written back the same.

use xenstore_wire::{
    DomId, HEADER_SIZE, Header, Message, MessageType, PAYLOAD_MAX, Path, PathBuf, Permission, Permissions, Resolved,
    SpecialPath, Target, atoi, first_string, one_string, parse_domid, resolve, resolve_with_special, strings, strtol,
    strtoul,
};

use crate::script::Script;

/// Bytes as a stream of messages.
pub fn messages(data: &[u8]) {
    let mut rest = data;
    while let Some((message, behind)) = Message::split(rest) {
        let whole = &rest[..rest.len() - behind.len()];
        let Message { header, payload } = message;
        assert!(payload.len() <= PAYLOAD_MAX);
        assert_eq!(payload.len(), header.length as usize);
        assert_eq!([&header.emit()[..], payload].concat(), whole);
        // Not a byte less is a message.
        assert_eq!(Message::split(&whole[..whole.len() - 1]), None);
        if let Some(kind) = MessageType::from_wire(header.kind) {
            assert_eq!(kind.to_wire(), header.kind);
            let reply = header.reply(kind, header.length);
            assert_eq!(Header::parse(&reply.emit()), header);
        }
        payload_strings(payload);
        rest = behind;
    }
    // What stops the reading is a message that is not all there, or one that must not be.
    if let Some(head) = rest.first_chunk::<HEADER_SIZE>() {
        let length = Header::parse(head).length as usize;
        assert!(length > PAYLOAD_MAX || rest.len() < HEADER_SIZE + length);
    }
}

fn payload_strings(payload: &[u8]) {
    let nuls = payload.iter().filter(|byte| **byte == 0).count();
    assert_eq!(strings(payload).count(), nuls);
    let mut again = Vec::new();
    let mut reader = strings(payload);
    for string in reader.by_ref() {
        assert!(!string.contains(&0));
        again.extend_from_slice(string);
        again.push(0);
        numbers(string);
    }
    again.extend_from_slice(reader.rest());
    assert_eq!(again, payload);
    assert_eq!(first_string(payload).is_some(), nuls > 0);
    let single = nuls == 1 && payload.last() == Some(&0);
    assert_eq!(one_string(payload).is_some(), single);
}

fn numbers(text: &[u8]) {
    for base in [0, 10, 16] {
        let (_, rest) = strtol(text, base);
        assert!(text.ends_with(rest));
        let (_, rest) = strtoul(text, base);
        assert!(text.ends_with(rest));
    }
    let digits = core::str::from_utf8(text)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    if let Some(number) = digits.and_then(|text| text.parse::<u16>().ok()) {
        assert_eq!(
            (atoi(text), parse_domid(text)),
            (i32::from(number), Some(DomId(number)))
        );
    }
}

/// Bytes as a path that a domain names, with a limit.
pub fn paths(data: &[u8]) {
    let mut script = Script(data);
    let own = DomId(script.short());
    let limit = match script.byte() {
        0 => None,
        some => Some(usize::from(some) * 16),
    };
    let bytes = script.0;
    let plain = resolve(bytes, own, limit);
    match resolve_with_special(bytes, own, limit) {
        Ok(Target::Node(Resolved { path, prefix_len })) => {
            assert_eq!(plain.as_ref().map(|plain| &plain.path), Ok(&path));
            assert_eq!(path.as_path().without_prefix(prefix_len).as_bytes(), bytes);
            assert!(limit.is_none_or(|limit| bytes.len() < limit + "/local/domain/65535/".len()));
            node_path(&path);
        }
        Ok(Target::Special(special)) => {
            assert!(plain.is_err());
            assert_eq!(special.as_str().as_bytes(), bytes);
            assert_eq!(
                SpecialPath::new(special.as_str()).map(|same| same.kind()),
                Ok(special.kind())
            );
        }
        Err(_) => assert!(plain.is_err()),
    }
    // What is read back from the durable pages is checked, too.
    if let Ok(path) = postcard::from_bytes::<PathBuf>(data) {
        node_path(&path);
    }
    let _checked: Result<SpecialPath, _> = postcard::from_bytes(data);
}

fn node_path(path: &PathBuf) {
    let whole = path.as_path();
    assert_eq!(Path::new(whole.as_str()), Ok(whole));
    let mut built = Path::ROOT.to_owned();
    for name in whole.components() {
        assert!(!name.is_empty() && !name.contains('/'));
        let below = PathBuf::join(built.as_path(), name).expect("a name of a path is a name");
        assert_eq!(below.as_path().parent(), Some(built.as_path()));
        assert_eq!(below.as_path().name(), name);
        built = below;
    }
    assert_eq!(&built, path);
    assert_eq!(whole.depth() + 1, whole.ancestors().count());
    assert!(whole.ancestors().all(|above| above.contains(whole)));
    let stored = postcard::to_allocvec(path).expect("a path can be stored");
    assert_eq!(postcard::from_bytes::<PathBuf>(&stored).as_ref(), Ok(path));
}

/// Bytes as the entries of a permission list.
pub fn permissions(data: &[u8]) {
    let entries: Vec<Permission> = strings(data).filter_map(|text| Permission::parse(text).ok()).collect();
    for entry in &entries {
        assert_eq!(Permission::parse(entry.to_string().as_bytes()), Ok(*entry));
    }
    let Some(list) = Permissions::from_entries(entries.clone()) else {
        assert!(entries.is_empty());
        return;
    };
    permission_list(&list);
    // As stored bytes: a list that is read back has an owner.
    if let Ok(stored) = postcard::from_bytes::<Permissions>(data) {
        permission_list(&stored);
    }
}

fn permission_list(list: &Permissions) {
    assert_eq!(list.entries().len(), list.exceptions().len() + 1);
    assert_eq!(
        (list.owner(), list.everyone()),
        (list.entries()[0].domid, list.entries()[0].access)
    );
    let given = list.with_owner(DomId(7));
    assert_eq!((given.owner(), given.everyone()), (DomId(7), list.everyone()));
    assert_eq!(given.exceptions(), list.exceptions());
    let stored = postcard::to_allocvec(list).expect("a list can be stored");
    assert_eq!(postcard::from_bytes::<Permissions>(&stored).as_ref(), Ok(list));
}
