//! What a domain is offered and how much it may have, asked for and set over the wire: GET_FEATURE, SET_FEATURE, GET_QUOTA and
//! SET_QUOTA (Xen 4.21 and 4.22).

use alloc::format;
use alloc::vec::Vec;

use xenstore_wire::{DomId, Errno, MessageType, atoi, parse_domid, strings};

use crate::control::text;
use crate::decision::{Answer, Decision, Outcome};
use crate::quota::Limit;
use crate::record::Change;
use crate::tree::Memory;

/// The bit of `server_features` that lets a WATCH carry a depth (Xen 4.22).
const WATCH_DEPTH: u32 = 4;
/// The bit of `server_features` that lets a permission name every domain (Xen 4.22).
const DOMID_ANY: u32 = 8;

impl<M: Memory> Decision<'_, M> {
    /// The caller may give a WATCH a depth.
    pub fn watch_depth_is_offered(&self) -> bool {
        self.server.features_of(self.caller.domid()) & WATCH_DEPTH != 0
    }

    /// The caller may name every domain in a permission.
    pub fn domid_any_is_offered(&self) -> bool {
        self.server.features_of(self.caller.domid()) & DOMID_ANY != 0
    }

    pub fn get_feature(&mut self, payload: &[u8]) -> Outcome {
        let mut arguments = strings(payload);
        let Some(domid) = arguments.next() else {
            return number(self.server.features_of(self.caller.domid()));
        };
        // Who may not ask learns nothing of what it asked.
        let about = parse_domid(domid);
        self.about(MessageType::GetFeature, about.unwrap_or(DomId::INVALID))?;
        if arguments.next().is_some() {
            return Err(Errno::EINVAL);
        }
        let domid = self.existing(domid)?;
        number(self.server.features_of(domid))
    }

    /// Takes features away from a domain that is not connected yet: the page that is offered to it never loses any.
    pub fn set_feature(&mut self, payload: &[u8]) -> Outcome {
        let mut arguments = strings(payload);
        let (Some(domid), Some(features), None) = (arguments.next(), arguments.next(), arguments.next()) else {
            return Err(Errno::EINVAL);
        };
        let domid = self.existing_for(MessageType::SetFeature, domid)?;
        let features = atoi(features).cast_unsigned();
        if self.domain(domid).is_some_and(|domain| domain.connection.is_some()) {
            return Err(Errno::EBUSY);
        }
        if features & !self.server.configuration.features != 0 {
            return Err(Errno::EINVAL);
        }
        self.change(Change::FeaturesSet { domid, features });
        Ok(Answer::ok())
    }

    /// Without arguments the names, with a name the value for domains that become known later, with a domain its own.
    pub fn get_quota(&mut self, payload: &[u8]) -> Outcome {
        let arguments: Vec<&[u8]> = strings(payload).take(3).collect();
        let (domid, name) = match *arguments.as_slice() {
            [] => {
                return text(Limit::ALL.map(Limit::name).join(" "));
            }
            [name] => (None, name),
            [domid, name] => (Some(self.existing_for(MessageType::GetQuota, domid)?), name),
            _ => return Err(Errno::EINVAL),
        };
        let limit = Limit::from_name(name).ok_or(Errno::EINVAL)?;
        let own = domid.and_then(|domid| self.domain(domid));
        let quotas = own.map_or(&self.server.settings.quotas, |domain| &domain.quotas);
        number(quotas.get(limit))
    }

    /// A limit for domains that become known later, or for one domain from now on. 0 means none.
    pub fn set_quota(&mut self, payload: &[u8]) -> Outcome {
        let arguments: Vec<&[u8]> = strings(payload).take(4).collect();
        let (domid, name, value) = match *arguments.as_slice() {
            [name, value] => (None, name, value),
            [domid, name, value] => (Some(self.existing_for(MessageType::SetQuota, domid)?), name, value),
            _ => return Err(Errno::EINVAL),
        };
        let limit = Limit::from_name(name).ok_or(Errno::EINVAL)?;
        // C keeps this value for "there is no such limit".
        let value = Some(atoi(value).cast_unsigned()).filter(|value| *value != u32::MAX);
        let value = value.ok_or(Errno::EINVAL)?;
        self.change(match domid {
            Some(domid) => Change::DomainLimit { domid, limit, value },
            None => Change::DefaultLimit { limit, value },
        });
        Ok(Answer::ok())
    }

    fn existing_for(&mut self, kind: MessageType, text: &[u8]) -> Result<DomId, Errno> {
        let domid = self.existing(text)?;
        self.about(kind, domid)?;
        Ok(domid)
    }

    /// A domain that is known, or exists and becomes known by being named.
    fn existing(&mut self, text: &[u8]) -> Result<DomId, Errno> {
        let domid = parse_domid(text).ok_or(Errno::EINVAL)?;
        if self.makes_known(domid) {
            Ok(domid)
        } else {
            Err(Errno::ENOENT)
        }
    }
}

fn number(value: u32) -> Outcome {
    text(format!("{value}"))
}
