# `make install-unix` and `make uninstall-unix`: the daemon on a Unix socket, which shares nothing with the store domain. Nothing is
# built here, so installing needs no Rust. The folders are those of ../install.mk.

.PHONY: install-unix uninstall-unix install-unix-test

install-unix:
	@[ -r "$(BUILT)/xenstored-unix" ] || { echo "install: $(BUILT)/xenstored-unix is missing; run \`make unix\` first" >&2; exit 1; }
	@mkdir -p '$(DESTDIR)$(SBINDIR)' 2>/dev/null && [ -w '$(DESTDIR)$(SBINDIR)' ] || \
		{ echo "install: $(DESTDIR)$(SBINDIR) cannot be written; run this as root, or with DESTDIR=…" >&2; exit 1; }
	@mkdir -p '$(DESTDIR)$(UNITDIR)' '$(DESTDIR)$(DOCDIR)'
	@install -m 755 $(BUILT)/xenstored-unix '$(DESTDIR)$(SBINDIR)'
	@$(call configured,644,unix/xenstored-unix.service,$(UNITDIR)/xenstored-unix.service)
	@install -m 644 crates/xenstored-unix/README.md '$(DESTDIR)$(DOCDIR)/xenstored-unix.md'
	@echo "installed below $(DESTDIR)$(PREFIX); start it with \`systemctl enable --now xenstored-unix\`"

# Folders that are not only ours go if they are empty.
uninstall-unix:
	@rm -f '$(DESTDIR)$(SBINDIR)/xenstored-unix' '$(DESTDIR)$(UNITDIR)/xenstored-unix.service' '$(DESTDIR)$(DOCDIR)/xenstored-unix.md'
	@for folder in '$(DESTDIR)$(DOCDIR)' '$(DESTDIR)$(UNITDIR)' '$(DESTDIR)$(dir $(UNITDIR))'; do \
		[ ! -d "$$folder" ] || rmdir --ignore-fail-on-non-empty "$$folder"; \
	done
	@echo "removed from $(DESTDIR)$(PREFIX)"

install-unix-test:
	@sh xen-config/unix/test-install.sh
