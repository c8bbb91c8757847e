// Reads a policy and writes the filter that libseccomp makes of it. Names that it does not know are told on stderr.
//
//	default ACTION
//	arch TOKEN
//	rule ACTION NAME N  followed by N times: INDEX OP VALUE VALUE
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int rc, const char *what)
{
	if (rc < 0) {
		fprintf(stderr, "failed: %s: %s\n", what, strerror(-rc));
		exit(1);
	}
}

int main(void)
{
	scmp_filter_ctx ctx = NULL;
	char word[64], name[128];
	uint32_t action;
	int native = 0;
	while (scanf("%63s", word) == 1) {
		if (!strcmp(word, "default")) {
			if (scanf("%" SCNx32, &action) != 1)
				return 2;
			ctx = seccomp_init(action);
			if (!ctx)
				return 2;
			must(seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS)), "badarch");
		} else if (!strcmp(word, "arch")) {
			uint32_t token;
			if (scanf("%" SCNx32, &token) != 1)
				return 2;
			if (token == seccomp_arch_native())
				native = 1;
			else
				must(seccomp_arch_add(ctx, token), "arch_add");
		} else if (!strcmp(word, "native")) { // after the last arch
			if (!native)
				must(seccomp_arch_remove(ctx, seccomp_arch_native()), "arch_remove");
		} else if (!strcmp(word, "rule")) {
			int n;
			struct scmp_arg_cmp args[6];
			if (scanf("%" SCNx32 " %127s %d", &action, name, &n) != 3 || n > 6)
				return 2;
			for (int i = 0; i < n; i++) {
				unsigned index, op;
				if (scanf("%u %u %" SCNu64 " %" SCNu64, &index, &op, &args[i].datum_a, &args[i].datum_b) != 4)
					return 2;
				args[i].arg = index;
				args[i].op = op;
			}
			int nr = seccomp_syscall_resolve_name(name);
			if (nr == __NR_SCMP_ERROR) {
				fprintf(stderr, "unknown %s\n", name);
				continue;
			}
			must(seccomp_rule_add_array(ctx, action, nr, n, args), name);
		}
	}
	must(seccomp_export_bpf(ctx, 1), "export");
	return 0;
}
