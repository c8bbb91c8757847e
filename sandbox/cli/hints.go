package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"cove/config"
	"cove/fetch"
	"cove/fetch/image"
	"cove/fetch/layer"
	"cove/fetch/policy"
	"cove/fetch/store"
	"cove/fetch/wire"
	"cove/sandbox"
	"cove/sandbox/host"
	"cove/sandbox/integration"
	"cove/sandbox/network"
	"cove/sandbox/network/driver"
	"cove/sandbox/review"
	"cove/sandbox/start"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// hints is the one table of advice: for an error, what to do next. The first that applies is
// told. What a hint says of the machine was seen there, not guessed; "" is no hint.
var hints = []func(a *app, err error) string{
	changesHint,
	func(a *app, err error) string {
		var e *errUntrusted
		if !errors.As(err, &e) {
			return ""
		}
		return "`cove trust` shows what it grants and asks; there is no terminal here to ask on"
	},
	func(a *app, err error) string {
		if errors.As(err, new(*errProfileThere)) {
			return "`cove " + a.Command + " --stdout` prints what would be written, --force puts it in the place of what is there"
		}
		return ""
	},
	func(a *app, err error) string {
		if e := (&integration.MissingError{}); errors.As(err, &e) {
			return e.Do
		}
		return ""
	},
	func(a *app, err error) string {
		if e := (&keptError{}); !errors.As(err, &e) {
			return ""
		}
		return "`cove diff` shows them, `cove apply` takes them over, `cove discard` drops them; --continue goes on in the midst of them"
	},
	func(a *app, err error) string {
		if !errors.Is(err, sandbox.ErrReviewAsRoot) {
			return ""
		}
		return "run cove as the user whom the project belongs to, or `cove run --workspace ro`"
	},
	func(a *app, err error) string {
		if e := (&review.InUseError{}); !errors.As(err, &e) || e.By == "" {
			return ""
		}
		return "one sandbox works in it at a time: `cove exec` runs a command in that one, `cove stop` ends it"
	},
	func(a *app, err error) string {
		if e := (&review.OtherError{}); !errors.As(err, &e) {
			if e := (&sandbox.KeptViewError{}); !errors.As(err, &e) {
				return ""
			}
		}
		return "`cove apply` takes over what is in it, or `cove discard` drops it; the next one is made anew"
	},
	func(a *app, err error) string {
		var e *config.LockError
		switch {
		case !errors.As(err, &e):
			return ""
		case e.Absent:
			return "`cove lock` writes it"
		case e.Platform != "":
			return "`cove lock --platform " + e.Platform + "` adds it, and leaves the others as they are"
		}
		return "`cove lock` pins what the profile has now"
	},
	func(a *app, err error) string {
		if e := (&config.LockMistakes{}); !errors.As(err, &e) {
			return ""
		}
		return "a lock is not edited by hand: take the last good one out of version control; or remove it, and `cove lock` pins what the image is now"
	},
	func(a *app, err error) string {
		if e := (&image.LockedError{}); !errors.As(err, &e) {
			return ""
		}
		return "nothing of it is used; when the image was changed on purpose, `cove update` moves the lock to it and shows what moved"
	},
	func(a *app, err error) string {
		if e := (&errIndexGone{}); !errors.As(err, &e) {
			return ""
		}
		return "platforms of different makes do not go into one lock by themselves; `cove update` moves all of them to what the tag names now"
	},
	func(a *app, err error) string {
		var e *sandbox.PersistError
		switch {
		case !errors.As(err, &e):
			return ""
		case e.Holder != "":
			return "`cove exec " + shellWord(e.Holder) + " COMMAND` runs one in there, `cove stop " + shellWord(e.Holder) + "` ends it; --persist=false runs beside it, without what is kept"
		}
		return "--rebuild drops what is kept and begins anew; --persist=false leaves it alone and runs without it"
	},
	func(a *app, err error) string {
		if e := (&errSetupOffline{}); !errors.As(err, &e) {
			return ""
		}
		return "where there is a network, a run without --offline makes it"
	},
	func(a *app, err error) string {
		if e := (&errSetup{}); !errors.As(err, &e) || !e.none {
			return ""
		}
		return "its commands had no network; setup_network in the profile lists what they can reach, as setup_network = [\"deb.debian.org:80\"]"
	},
	func(a *app, err error) string {
		var e *fetch.OfflineError
		if !errors.As(err, &e) {
			return ""
		}
		platform := ""
		if e.Platform != "" && e.Platform != thisPlatform() {
			platform = "--platform " + e.Platform + " "
		}
		return "where there is a network, `cove pull " + platform + e.Ref + "` gets it"
	},
	func(a *app, err error) string {
		var e *userns.NamespaceError
		if !errors.Is(err, sandbox.ErrNoUserNS) && !errors.As(err, &e) {
			return ""
		}
		return a.aboutHost(func(h *host.Host) string {
			if e != nil && errors.Is(e, unix.ENOSPC) {
				return "user.max_user_namespaces=" + h.Sysctls.MaxUserNS + " are in use already, or that many are nested here"
			}
			if h.UserNS.OK { // when it was tried; a security module's policy may have been loaded since
				if fresh, err := a.Machine(true); err != nil || fresh.UserNS.OK {
					return ""
				} else {
					h = fresh
				}
			}
			return explain("user namespaces: "+a.here().usernsCheck(h).Found, a.here().usernsFix(h))
		})
	},
	func(a *app, err error) string {
		if !errors.Is(err, start.ErrNoProc) {
			return ""
		}
		return a.aboutHost(func(h *host.Host) string {
			k := a.here().procCheck(h)
			return explain(k.Found, k.Fix)
		})
	},
	func(a *app, err error) string {
		if !errors.Is(err, start.ErrNoHostname) {
			return ""
		}
		return a.aboutHost(func(h *host.Host) string {
			k := a.here().hostnameCheck(h)
			return explain(k.Found, k.Fix)
		})
	},
	func(a *app, err error) string {
		var e *userns.HelperError
		if !errors.As(err, &e) && !errors.Is(err, userns.ErrNoHelper) && !errors.Is(err, userns.ErrNoSubids) {
			return ""
		}
		return a.aboutHost(func(h *host.Host) string { return explain(a.here().idsProblem(h)) })
	},
	func(a *app, err error) string {
		var e *layer.UnmappedIDError
		if !errors.As(err, &e) {
			return ""
		}
		return a.aboutHost(func(h *host.Host) string {
			if h.MapRange.OK {
				return "the ranges in /etc/subuid and /etc/subgid are too short for this image"
			}
			return explain(a.here().idsProblem(h))
		})
	},
	func(a *app, err error) string {
		if !errors.Is(err, sandbox.ErrNoRootFS) {
			return ""
		}
		return a.aboutHost(func(h *host.Host) string {
			return explain("overlay: "+a.here().overlayCheck(h).Found, a.here().install("fuse-overlayfs"))
		})
	},
	func(a *app, err error) string {
		var e *sandbox.ProtectionError
		if !errors.As(err, &e) {
			return ""
		}
		return a.aboutHost(func(h *host.Host) string {
			if h.LandlockScope {
				return ""
			}
			return a.here().hostNetworkCheck(h).Found + "; --best-effort goes on without this protection, `cove doctor` tells what would give it"
		})
	},
	func(a *app, err error) string {
		var e *sandbox.LimitError
		if !errors.As(err, &e) {
			return ""
		}
		return a.aboutHost(func(h *host.Host) string { return explain(limitsProblem(h, err)) })
	},
	func(a *app, err error) string {
		var e *driver.MissingError
		if !errors.As(err, &e) {
			return ""
		}
		return a.here().install(e.Programs...)
	},
	func(a *app, err error) string {
		var e *wire.StatusError
		if !errors.As(err, &e) || e.Status != http.StatusUnauthorized {
			return ""
		}
		return "`podman login` or `docker login` writes credentials where cove finds them; REGISTRY_AUTH_FILE names another file"
	},
	func(a *app, err error) string {
		var e x509.UnknownAuthorityError
		var r *wire.RequestError
		if !errors.As(err, &e) || !errors.As(err, &r) {
			return ""
		}
		host := r.URL
		if u, err := url.Parse(r.URL); err == nil {
			host = u.Host
		}
		return "the authority's certificate belongs into ~/.config/containers/certs.d/" + host + "/ca.crt, if it is to be trusted"
	},
	func(a *app, err error) string {
		var e *layer.LimitError
		if !errors.As(err, &e) || boundFlags[e.What] == "" {
			return ""
		}
		flag := boundFlags[e.What]
		return fmt.Sprintf("if the image is meant to be so, --%s raises the bound (or %s in the environment); nothing of it is kept", flag, start.BoundVariable(flag))
	},
	func(a *app, err error) string {
		var d *fetch.DigestError
		var s *fetch.SizeError
		if !errors.As(err, &d) && !errors.As(err, &s) {
			return ""
		}
		return "what came is not what its digest names: the source, or a proxy on the way, is broken or lies; nothing of it is used"
	},
	func(a *app, err error) string {
		var e *image.UnsignedError
		if !errors.As(err, &e) {
			return ""
		}
		return "`cove pull --verify-key FILE REF`, or `cove pull` for a profile's, asks the registry for its signatures"
	},
	func(a *app, err error) string {
		var e *fetch.SignatureError
		if !errors.As(err, &e) || !errors.Is(err, policy.ErrNoSignature) {
			return ""
		}
		return "cosign's signatures are looked for beside the image in its registry, OpenPGP's where registries.d says; see `cove help signatures`"
	},
	func(a *app, err error) string {
		var e *fetch.PolicyError
		switch {
		case !errors.As(err, &e):
			return ""
		case errors.Is(err, policy.ErrNoSignature):
			return "where signatures are looked for is said in registries.d; see `cove help signatures`"
		}
		return e.File + " says which images may come in; see `cove help signatures`"
	},
	func(a *app, err error) string {
		if !errors.Is(err, start.ErrNoProfile) {
			return ""
		}
		return "`cove init` writes one; --profile FILE names another"
	},
	func(a *app, err error) string {
		var e *config.ProfileError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), `needs network.mode = "user"`) {
			return ""
		}
		return "--network user, or mode under [network], gives it a network"
	},
	func(a *app, err error) string {
		var e *net.DNSError
		if !errors.As(err, &e) || !e.IsNotFound {
			return ""
		}
		return "no registry of that name was found: look at the name, and whether there is a network; `cove images` lists what is stored"
	},
	func(a *app, err error) string {
		var e *sandbox.JoinError
		if !errors.As(err, &e) {
			return ""
		}
		return "leave every shell of it first (or `cove stop " + e.Name + "`), or leave the options out to join it as it is; `cove run` makes one of its own"
	},
	func(a *app, err error) string {
		if !errors.Is(err, sandbox.ErrNoSandbox) {
			return ""
		}
		return "`cove ps` lists those that run"
	},
	func(a *app, err error) string {
		var e *errDamaged
		if !errors.As(err, &e) || len(e.refs)+len(e.local)+len(e.setups) == 0 {
			return ""
		}
		if len(e.refs)+len(e.local) == 0 {
			return "it is of a profile's setup: in the project `cove run --rebuild` makes it anew"
		}
		if len(e.refs) == 0 {
			return madeHere(e.local)
		}
		words := make([]string, len(e.refs))
		for i, ref := range e.refs {
			words[i] = shellWord(ref)
		}
		hint := "this fetches again what is damaged: cove pull " + strings.Join(words, " ")
		if len(e.local) > 0 {
			hint += "; " + madeHere(e.local)
		}
		return hint
	},
	func(a *app, err error) string {
		if !errors.Is(err, store.ErrNotFound) {
			return ""
		}
		return "`cove images` lists what is there, `cove pull` gets an image"
	},
	func(a *app, err error) string {
		var e *fetch.PlatformError
		if !errors.As(err, &e) {
			return ""
		}
		return "--platform OS/ARCH chooses another one"
	},
	func(a *app, err error) string {
		if !strings.Contains(err.Error(), network.NoFilter) {
			return ""
		}
		return explain(network.NoFilter, a.here().filterFix())
	},
	func(a *app, err error) string {
		if !strings.Contains(err.Error(), "/dev/net/tun") {
			return ""
		}
		return a.aboutHost(func(h *host.Host) string {
			if h.DevNetTun.OK {
				return ""
			}
			return explain(h.DevNetTun.Why, a.here().deviceFix("/dev/net/tun", "tun", h.DevNetTun))
		})
	},
	func(a *app, err error) string {
		// What a store on a file system that is not fit for it fails with, when files get owners or programs are started.
		switch {
		case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EREMOTEIO):
		default:
			return ""
		}
		return a.aboutHost(func(h *host.Host) string {
			if k := a.here().storeCheck(h); (h.Store.Remote || h.Store.NoExec) && !k.OK {
				return explain(fmt.Sprintf("the store (%s): %s", k.Found, k.Lost), k.Fix)
			}
			return ""
		})
	},
	func(a *app, err error) string {
		if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
			return ""
		}
		return a.aboutHost(func(h *host.Host) string {
			return fmt.Sprintf("if it is the store's disk that is full (%s): `cove gc` gives some back; COVE_STORE puts the store elsewhere", h.Store.Dir)
		})
	},
}

// boundFlags are the options that raise the bound of a layer.LimitError.
var boundFlags = map[string]string{"bytes": "max-size", "entries": "max-entries", "ratio": "max-ratio", "manifest": "max-manifest",
	"depth": "max-depth", "time": "max-time"}

// hintFor is the advice for an error.
func (a *app) hintFor(err error) string {
	for _, hint := range hints {
		if text := hint(a, err); text != "" {
			return text
		}
	}
	return ""
}

// aboutHost makes a hint of what the machine is; it is asked when nobody has yet.
func (a *app) aboutHost(f func(*host.Host) string) string {
	h, err := a.Machine(false)
	if err != nil {
		return ""
	}
	return f(h)
}

func explain(found, fix string) string {
	switch {
	case found == "" && fix == "":
		return ""
	case fix == "":
		return found
	}
	return found + "; this mends it:\n" + fix
}

// madeHere says what mends images that no registry has.
func madeHere(refs []string) string {
	return escape(strings.Join(refs, ", ")) + " came from `cove commit`: to commit again makes its own layer anew, and to pull the image that it was made of those below"
}
