# `make install` and `make uninstall`: what an administrator gets on the host. Nothing is built here, so installing needs no Rust.

DESTDIR ?=
PREFIX ?= /usr/local
SBINDIR ?= $(PREFIX)/sbin
# The start script, and the image's symbols for reading a core.
LIBDIR ?= $(PREFIX)/lib/xenstore-stubdom
# Where upstream keeps its kernels for domains.
IMAGEDIR ?= $(PREFIX)/lib/xen/boot
UNITDIR ?= $(PREFIX)/lib/systemd/system
DROPINDIR = $(UNITDIR)/xendomains.service.d
DOCDIR ?= $(PREFIX)/share/doc/xenstore-stubdom
# Where `make image` leaves its results.
BUILT ?= target

INSTALLED_BUILT = xenstore-stubdom xenstore-stubdom-pv xenstore-stubdom.symbols xenstore-stubdom-watcher

# $(call configured,MODE,FILE,TO): copies a text file with the folders filled in.
configured = sed -e 's|@SBINDIR@|$(SBINDIR)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@IMAGEDIR@|$(IMAGEDIR)|g' -e 's|@DOCDIR@|$(DOCDIR)|g' \
	xen-config/$(2) >'$(DESTDIR)$(3)' && chmod $(1) '$(DESTDIR)$(3)'

.PHONY: install uninstall install-test

install:
	@for file in $(INSTALLED_BUILT); do \
		[ -r "$(BUILT)/$$file" ] || { echo "install: $(BUILT)/$$file is missing; run \`make image\` first" >&2; exit 1; }; \
	done
	@mkdir -p '$(DESTDIR)$(SBINDIR)' 2>/dev/null && [ -w '$(DESTDIR)$(SBINDIR)' ] || \
		{ echo "install: $(DESTDIR)$(SBINDIR) cannot be written; run this as root, or with DESTDIR=…" >&2; exit 1; }
	@mkdir -p '$(DESTDIR)$(LIBDIR)/xendomains' '$(DESTDIR)$(IMAGEDIR)' '$(DESTDIR)$(DROPINDIR)' '$(DESTDIR)$(DOCDIR)'
	@install -m 644 $(BUILT)/xenstore-stubdom $(BUILT)/xenstore-stubdom-pv '$(DESTDIR)$(IMAGEDIR)'
	@install -m 644 $(BUILT)/xenstore-stubdom.symbols '$(DESTDIR)$(LIBDIR)'
	@install -m 755 $(BUILT)/xenstore-stubdom-watcher '$(DESTDIR)$(SBINDIR)'
	@$(call configured,755,debian/xenstore-stubdom-start,$(LIBDIR)/xenstore-stubdom-start)
	@$(call configured,755,debian/xenstore-stubdom-debian,$(SBINDIR)/xenstore-stubdom-debian)
	@$(call configured,644,debian/xenstore-stubdom.service,$(UNITDIR)/xenstore-stubdom.service)
	@$(call configured,755,debian/xen-without-store,$(LIBDIR)/xendomains/xen)
	@$(call configured,644,debian/xendomains.service.conf,$(DROPINDIR)/xenstore-stubdom.conf)
	@$(call configured,644,xenstore-stubdom-watcher.service,$(UNITDIR)/xenstore-stubdom-watcher.service)
	@$(call configured,644,README.md,$(DOCDIR)/README.md)
	@$(call configured,644,xencommons,$(DOCDIR)/xencommons)
	@$(call configured,644,selftest.cfg,$(DOCDIR)/selftest.cfg)
	@install -m 644 LICENSE-MIT LICENSE-APACHE '$(DESTDIR)$(DOCDIR)'
	@echo "installed below $(DESTDIR)$(PREFIX); nothing has been switched over. Next: $(DOCDIR)/README.md"

# Folders that are not only ours go if they are empty.
uninstall:
	@for links in /etc/systemd/system /run/systemd/system; do \
		if [ -L "$(DESTDIR)$$links/xen.service" ] && [ "$$(basename "$$(readlink "$(DESTDIR)$$links/xen.service")")" = xenstore-stubdom.service ]; then \
			echo "uninstall: this host uses the store domain, or will until it boots; run \`xenstore-stubdom-debian disable\` and boot it first" >&2; \
			exit 1; \
		fi; \
	done
	@rm -f '$(DESTDIR)$(IMAGEDIR)/xenstore-stubdom' '$(DESTDIR)$(IMAGEDIR)/xenstore-stubdom-pv'
	@rm -f '$(DESTDIR)$(LIBDIR)/xenstore-stubdom.symbols' '$(DESTDIR)$(LIBDIR)/xenstore-stubdom-start'
	@rm -f '$(DESTDIR)$(SBINDIR)/xenstore-stubdom-watcher' '$(DESTDIR)$(SBINDIR)/xenstore-stubdom-debian'
	@rm -f '$(DESTDIR)$(UNITDIR)/xenstore-stubdom.service' '$(DESTDIR)$(UNITDIR)/xenstore-stubdom-watcher.service'
	@rm -f '$(DESTDIR)$(LIBDIR)/xendomains/xen' '$(DESTDIR)$(DROPINDIR)/xenstore-stubdom.conf'
	@for file in README.md xencommons selftest.cfg LICENSE-MIT LICENSE-APACHE; do rm -f "$(DESTDIR)$(DOCDIR)/$$file"; done
	@for folder in '$(DESTDIR)$(LIBDIR)/xendomains' '$(DESTDIR)$(LIBDIR)' '$(DESTDIR)$(DROPINDIR)' '$(DESTDIR)$(DOCDIR)' '$(DESTDIR)$(IMAGEDIR)' '$(DESTDIR)$(dir $(IMAGEDIR))' '$(DESTDIR)$(UNITDIR)' \
		'$(DESTDIR)$(dir $(UNITDIR))'; do \
		[ ! -d "$$folder" ] || rmdir --ignore-fail-on-non-empty "$$folder"; \
	done
	@echo "removed from $(DESTDIR)$(PREFIX); cores that the watcher saved stay in /var/lib/xenstore-stubdom"

install-test:
	@sh xen-config/test-install.sh
