//! Changes of what is known of domains.

use xenstore_wire::DomId;

use crate::account::Account;
use crate::domain::Domain;
use crate::server::Server;
use crate::tree::Memory;

impl<M: Memory> Server<M> {
    pub(super) fn domain_known(&mut self, domid: DomId, unique_id: Option<u64>) {
        if self.domains.get(&domid).is_none() {
            let (features, quotas) = (self.configuration.features, self.settings.quotas.clone());
            self.domains.insert(domid, Domain::new(unique_id, features, quotas));
        }
    }

    pub(super) fn domain_forgotten(&mut self, domid: DomId) {
        self.conflicts.forget(domid);
        if let Some(gone) = self.domains.remove(&domid) {
            let privileged = domid == self.configuration.privileged;
            self.sums.change(privileged, &gone.account, &Account::default());
        }
        self.mentions.domain_gone(domid);
        self.domains.each_mut(|_, domain| {
            if domain.target == Some(domid) {
                domain.target = None;
            }
        });
    }

    pub(super) fn change_domain(&mut self, domid: DomId, change: impl FnOnce(&mut Domain)) {
        if let Some(domain) = self.domains.get_mut(&domid) {
            change(domain);
        }
    }
}
