//! Saved state as bytes, in one of three forms: as it is saved, with one field left out, or in a form in which two states are
//! equal if no one can tell them apart.
//!
//! It is the format of `postcard`, made here because only who writes it knows the names of the fields. Which fields there are is
//! found in this way, too: the list cannot be out of date.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::ser::{self, Serialize};
use xenstore_core::Server;
use xenstore_core::tree::{Memory, Node, Root, Tree};

/// Peaks between the last checkpoint and now are not remembered.
pub const FORGOTTEN: (&str, [&str; 2]) = ("Maxima", ["memory", "outstanding"]);

/// A list whose order says nothing: the index of watches gives them in the order in which it has them.
const UNORDERED: (&str, &str) = ("SavedState", "watches");

/// What is written in the place of a root.
type Trees<'a> = &'a mut dyn FnMut(u32) -> u64;

/// Writes.
pub struct Form<'a> {
    bytes: Vec<u8>,
    /// The field that is left out: numbers are zero, lists are empty.
    without: &'a str,
    /// Inside of it.
    inside: bool,
    /// In the place of roots.
    trees: Option<Trees<'a>>,
    /// Where the items of a list begin whose order says nothing.
    unordered: Option<Vec<usize>>,
    /// The fields that were met.
    fields: Option<&'a mut BTreeMap<String, u64>>,
}

/// Everything that must be the same before and after a crash.
pub fn canonical<M: Memory>(server: &Server<M>) -> Vec<u8> {
    let mut trees: BTreeMap<u32, u64> = BTreeMap::new();
    let mut digests = HashMap::new();
    let mut listed = Vec::new();
    let mut tree = |root: u32| {
        let next = trees.len() as u64;
        let number = *trees.entry(root).or_insert(next);
        if number == next {
            let top = server.tree().root_node(Root::from_id(root));
            listed.push(digest(server.tree(), top, &mut digests));
        }
        number
    };
    let mut form = Form {
        bytes: Vec::with_capacity(4096),
        without: "",
        inside: false,
        trees: Some(&mut tree),
        unordered: None,
        fields: None,
    };
    let _never_fails = server.state().serialize(&mut form);
    let mut bytes = form.bytes;
    bytes.extend(listed.into_iter().flat_map(u64::to_le_bytes));
    bytes.extend(
        format!(
            "{:?} {} {}",
            server.next_deadline(),
            server.heap_held(),
            server.saved_held()
        )
        .bytes(),
    );
    bytes
}

/// A number for a node and all nodes below it, in the order of their creation. The trees of transactions have most of theirs in common:
/// those are looked at once.
fn digest<M: Memory>(tree: &Tree<M>, node: Node<'_>, known: &mut HashMap<u32, u64>) -> u64 {
    if let Some(digest) = known.get(&node.id()) {
        return *digest;
    }
    let mut hasher = DefaultHasher::new();
    (node.name(), node.value(), node.generation()).hash(&mut hasher);
    for entry in node.permissions().iter() {
        (entry.domid.0, entry.access.letter(), entry.ignored).hash(&mut hasher);
    }
    for child in tree.children(node) {
        digest(tree, child, known).hash(&mut hasher);
    }
    let digest = hasher.finish();
    known.insert(node.id(), digest);
    digest
}

/// What is saved of this value, without one field (`Type.field`).
pub fn without(value: &impl Serialize, field: &str) -> Vec<u8> {
    let mut form = Form {
        bytes: Vec::new(),
        without: field,
        inside: false,
        trees: None,
        unordered: None,
        fields: None,
    };
    let _never_fails = value.serialize(&mut form);
    form.bytes
}

/// Counts the fields of this value that say something.
pub fn fields(value: &impl Serialize, into: &mut BTreeMap<String, u64>) {
    let mut form = Form {
        bytes: Vec::new(),
        without: "",
        inside: false,
        trees: None,
        unordered: None,
        fields: Some(into),
    };
    let _never_fails = value.serialize(&mut form);
}

/// There are none.
#[derive(Debug)]
pub struct Impossible;

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("impossible")
    }
}

impl std::error::Error for Impossible {}

impl ser::Error for Impossible {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Impossible
    }
}

type Done = Result<(), Impossible>;

impl Form<'_> {
    fn varint(&mut self, value: u64) {
        let mut rest = if self.inside { 0 } else { value };
        while rest >= 0x80 {
            self.bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
    }

    /// A list whose items are put in order.
    fn sorted<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.unordered = Some(Vec::new());
        value.serialize(&mut *self)?;
        let Some(first) = self.unordered.as_ref().and_then(|begin| begin.first()).copied() else {
            self.unordered = None;
            return Ok(());
        };
        let mut ends = self.unordered.take().unwrap_or_default().split_off(1);
        ends.push(self.bytes.len());
        let starts = std::iter::once(first).chain(ends.iter().copied());
        let mut items: Vec<Vec<u8>> = starts
            .zip(&ends)
            .map(|(from, to)| self.bytes[from..*to].to_vec())
            .collect();
        items.sort();
        self.bytes.truncate(first);
        self.bytes.extend(items.concat());
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, of: &str, name: &str, value: &T) -> Done {
        if self.trees.is_some() {
            return match (of, name) {
                UNORDERED => self.sorted(value),
                (of, name) if of == FORGOTTEN.0 && FORGOTTEN.1.contains(&name) => Ok(()),
                _ => value.serialize(self),
            };
        }
        if let Some(fields) = &mut self.fields {
            *fields.entry(format!("{of}.{name}")).or_default() += 1;
            return value.serialize(self);
        }
        let before = self.inside;
        self.inside |= self.without.split_once('.') == Some((of, name));
        let done = value.serialize(&mut *self);
        self.inside = before;
        done
    }
}

/// A struct or a variant with names.
pub struct Named<'f, 'a> {
    form: &'f mut Form<'a>,
    name: Cow<'static, str>,
}

macro_rules! numbers {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> Done {
            self.varint(value as u64);
            Ok(())
        })*
    };
}

macro_rules! signed {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> Done {
            let value = value as i64;
            self.varint(((value << 1) ^ (value >> 63)) as u64);
            Ok(())
        })*
    };
}

impl<'f, 'a> ser::Serializer for &'f mut Form<'a> {
    type Ok = ();
    type Error = Impossible;
    type SerializeSeq = Items<'f, 'a>;
    type SerializeTuple = Items<'f, 'a>;
    type SerializeTupleStruct = Items<'f, 'a>;
    type SerializeTupleVariant = Items<'f, 'a>;
    type SerializeMap = Items<'f, 'a>;
    type SerializeStruct = Named<'f, 'a>;
    type SerializeStructVariant = Named<'f, 'a>;

    numbers!(serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);
    signed!(serialize_i16: i16, serialize_i32: i32, serialize_i64: i64);

    fn serialize_bool(self, value: bool) -> Done {
        self.bytes.push(u8::from(value && !self.inside));
        Ok(())
    }
    fn serialize_u8(self, value: u8) -> Done {
        self.bytes.push(if self.inside { 0 } else { value });
        Ok(())
    }
    fn serialize_i8(self, value: i8) -> Done {
        self.serialize_u8(value.to_le_bytes()[0])
    }
    fn serialize_f32(self, _: f32) -> Done {
        Err(Impossible)
    }
    fn serialize_f64(self, _: f64) -> Done {
        Err(Impossible)
    }
    fn serialize_char(self, value: char) -> Done {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, value: &str) -> Done {
        self.serialize_bytes(value.as_bytes())
    }
    fn serialize_bytes(self, value: &[u8]) -> Done {
        self.varint(value.len() as u64);
        if !self.inside {
            self.bytes.extend(value);
        }
        Ok(())
    }
    fn serialize_none(self) -> Done {
        self.bytes.push(0);
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        self.bytes.push(u8::from(!self.inside));
        if self.inside { Ok(()) } else { value.serialize(self) }
    }
    fn serialize_unit(self) -> Done {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Done {
        Ok(())
    }
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Done {
        self.varint(index.into());
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Done {
        if name == "Root" && self.trees.is_some() {
            let mut number = Form {
                bytes: Vec::new(),
                without: "",
                inside: false,
                trees: None,
                unordered: None,
                fields: None,
            };
            value.serialize(&mut number)?;
            let id = number
                .bytes
                .iter()
                .rev()
                .fold(0, |id, byte| id << 7 | u32::from(byte & 0x7f));
            let number = self.trees.as_mut().map_or(0, |trees| trees(id));
            self.varint(number);
            return Ok(());
        }
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        of: &'static str,
        index: u32,
        name: &'static str,
        value: &T,
    ) -> Done {
        let inside = std::mem::take(&mut self.inside);
        self.varint(index.into());
        self.inside = inside;
        self.field(of, name, value)
    }
    fn serialize_seq(self, length: Option<usize>) -> Result<Items<'f, 'a>, Impossible> {
        self.varint(length.unwrap_or(0) as u64);
        Ok(Items {
            left_out: self.inside,
            begin: self.unordered.take(),
            form: self,
        })
    }
    fn serialize_tuple(self, _: usize) -> Result<Items<'f, 'a>, Impossible> {
        Ok(Items {
            left_out: false,
            begin: None,
            form: self,
        })
    }
    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Items<'f, 'a>, Impossible> {
        self.serialize_tuple(length)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        length: usize,
    ) -> Result<Items<'f, 'a>, Impossible> {
        let inside = std::mem::take(&mut self.inside);
        self.varint(index.into());
        self.inside = inside;
        self.serialize_tuple(length)
    }
    fn serialize_map(self, length: Option<usize>) -> Result<Items<'f, 'a>, Impossible> {
        self.serialize_seq(length)
    }
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Named<'f, 'a>, Impossible> {
        Ok(Named {
            form: self,
            name: name.into(),
        })
    }
    fn serialize_struct_variant(
        self,
        of: &'static str,
        index: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Named<'f, 'a>, Impossible> {
        let inside = std::mem::take(&mut self.inside);
        self.varint(index.into());
        self.inside = inside;
        Ok(Named {
            form: self,
            name: format!("{of}::{name}").into(),
        })
    }
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A list, a map or a tuple.
pub struct Items<'f, 'a> {
    form: &'f mut Form<'a>,
    left_out: bool,
    /// The order says nothing: where the items begin.
    begin: Option<Vec<usize>>,
}

impl Items<'_, '_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        if let Some(begin) = &mut self.begin {
            begin.push(self.form.bytes.len());
        }
        if self.left_out {
            Ok(())
        } else {
            value.serialize(&mut *self.form)
        }
    }
}

macro_rules! items {
    ($($trait:ident: $method:ident),*) => {
        $(impl ser::$trait for Items<'_, '_> {
            type Ok = ();
            type Error = Impossible;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                self.item(value)
            }
            fn end(self) -> Done {
                Ok(())
            }
        })*
    };
}

impl ser::SerializeSeq for Items<'_, '_> {
    type Ok = ();
    type Error = Impossible;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.item(value)
    }
    fn end(self) -> Done {
        self.form.unordered = self.begin;
        Ok(())
    }
}

items!(SerializeTuple: serialize_element, SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field);

impl ser::SerializeMap for Items<'_, '_> {
    type Ok = ();
    type Error = Impossible;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.item(key)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.item(value)
    }
    fn end(self) -> Done {
        Ok(())
    }
}

impl ser::SerializeStruct for Named<'_, '_> {
    type Ok = ();
    type Error = Impossible;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
        self.form.field(&self.name, name, value)
    }
    fn end(self) -> Done {
        Ok(())
    }
}

impl ser::SerializeStructVariant for Named<'_, '_> {
    type Ok = ();
    type Error = Impossible;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
        self.form.field(&self.name, name, value)
    }
    fn end(self) -> Done {
        Ok(())
    }
}
