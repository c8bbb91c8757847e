// Package wire asks a registry for manifests and blobs, and gives it some: the pull and the push side of
// the OCI distribution specification 1.1, over HTTP/1.1, for one repository at one host.
//
// go.podman.io/image has a client too, and cove takes from it what references mean, registries.conf,
// credentials and certs.d. Its client itself is not used, because what is missing there cannot be put in from outside
// (it makes its transport itself, and there is no hook). It
//
//   - pings /v2/ before it asks for anything, so that nothing takes one request;
//   - waits for headers and bodies without an end, and sleeps through 429 up to 60 s five times over;
//   - follows redirects as net/http does: from https to http, to any address, with the credentials to subdomains;
//   - sends a password to a token service over http when the registry says so;
//   - resumes a body only after some errors, and once in a minute;
//   - compares no Content-Length, and tries mirrors for what they lack, not for what they serve wrong.
//
// What comes is bounded in size and time here; whether the bytes are the right ones is checked by who
// asked. Errors name the method, the address without its query, and the status. What a server wrote in
// them is quoted and cut, and holds none of the secrets that were sent to it.
//
// Credentials are sent to the registry itself, after it has asked, and to the token service that it names
// (the Bearer challenge of the distribution project's token specification), over https unless the registry
// itself is asked over http. They go nowhere else: not along a redirect, and not to who asks for them there.
package wire
