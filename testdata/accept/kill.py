#!/usr/bin/env python3
"""kill.py COVE REF ROUNDS: kill -9 at random moments of a pull and of a run, as the user whose sandboxes they are.

After each kill no process of ours may be left, and no mount; after all of them the next run works, and the store
holds as many files and folders as one that was never interrupted: no half image, no temporary file. COVE_KILL_SEED
repeats a run. $HOME and the runtime directory must be this test's own.
"""
import os, random, signal, subprocess, sys, time

cove, ref, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
seed = int(os.environ.get("COVE_KILL_SEED") or random.SystemRandom().randrange(1 << 32))
rnd = random.Random(seed)
print(f"kill.py: seed {seed}")
base = os.path.join(os.environ["HOME"], "kill")
store = os.path.join(base, "store")
runtime = os.environ["XDG_RUNTIME_DIR"]
if os.path.exists(base):  # files of other ids are in there
    subprocess.run([cove, "unshare", "--", "rm", "-rf", base], check=True, stdin=subprocess.DEVNULL)
os.makedirs(base)

def processes():
    """The ids of all processes that run this cove, or that descend from one of ours and run as another id of ours."""
    out = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{p}/stat", "rb") as f:
                stat = f.read().decode("utf-8", "replace")
            with open(f"/proc/{p}/cmdline", "rb") as f:
                cmd = f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
            owner = os.stat(f"/proc/{p}").st_uid
        except OSError:
            continue
        state = stat.rsplit(")", 1)[1].split()[0]
        if state in "ZX" or owner not in ids or int(p) == os.getpid():
            continue
        out[int(p)] = f"{cmd or stat.split(' ')[1]} (state {state}, uid {owner})"
    return out

ids = {os.getuid()}
name = os.environ.get("USER", "")
with open("/etc/subuid") as f:
    for line in f:
        who, start, count = line.strip().split(":")
        if who in (name, str(os.getuid())):
            ids |= set(range(int(start), int(start) + int(count)))

def mounts():
    with open("/proc/self/mountinfo") as f:
        return sorted(l.split(" - ")[0].split(" ", 4)[4] for l in f)

def tree(top):
    """How many files and folders there are, and how deep: names may be random, numbers not."""
    count = {}
    script = f'find "$0" -printf "%y %d\\n"'
    # Files of other ids below can only be looked into from the store's own user namespace.
    out = subprocess.run([cove, "unshare", "--", "sh", "-c", script, top], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if out.returncode:
        sys.exit(f"kill.py: look at {top}: {out.stderr}")
    for line in out.stdout.splitlines():
        count[line] = count.get(line, 0) + 1
    return count

def run(args, **kw):
    return subprocess.run([cove, "--store", kw.pop("store", store), *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, **kw)

def must(result, what):
    if result.returncode:
        sys.exit(f"kill.py: {what}: exit code {result.returncode}\n{result.stdout}{result.stderr}")

before, mounted = processes(), mounts()

def settle(what):
    deadline = time.monotonic() + 5
    while True:
        left = {p: c for p, c in processes().items() if p not in before}
        if not left and mounts() == mounted:
            return
        if time.monotonic() > deadline:
            sys.exit(f"kill.py: {what}: left over: processes {left}, mounts {set(mounts()) ^ set(mounted)}")
        time.sleep(0.02)

# How long each takes undisturbed says where the random moments may lie.
clean = os.path.join(base, "clean")
t = time.monotonic(); must(run(["pull", ref], store=clean), "pull"); pull_time = time.monotonic() - t
os.mkdir(os.path.join(base, "work"))
work = os.path.join(base, "work")
script = "i=0; while [ $i -lt 300 ]; do echo $i >f$((i % 7)); i=$((i + 1)); done; sleep 0.2"
command = ["run", "--pull", "never", "--image", ref, "--", "sh", "-c", script]
t = time.monotonic(); must(run(command, store=clean, cwd=work), "run"); run_time = time.monotonic() - t
settle("undisturbed")
listed = [os.path.join(d, f) for d, ds, fs in os.walk(os.path.join(runtime, "cove")) for f in ds + fs]
print(f"kill.py: undisturbed: pull {pull_time:.2f} s, run {run_time:.2f} s")

killed = {"pull": 0, "run": 0}
for i in range(rounds):
    kind = "pull" if i % 2 == 0 else "run"
    args = ["pull", ref] if kind == "pull" else command
    if kind == "run":
        must(run(["pull", ref]), f"round {i}: pull after a killed pull")
    p = subprocess.Popen([cove, "--store", store, *args], cwd=work, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(rnd.uniform(0, 1.05 * (pull_time if kind == "pull" else run_time)))
    p.send_signal(signal.SIGKILL)
    p.wait()
    killed[kind] += p.returncode == -signal.SIGKILL
    settle(f"round {i}: killed {kind}")
    if kind == "run":
        must(run(["rmi", ref]), f"round {i}: rmi after a killed run")
print(f"kill.py: {killed['pull']} pulls and {killed['run']} runs were killed in the middle")
if min(killed.values()) < rounds // 4:
    sys.exit("kill.py: too few were hit: the machine's times changed under the test; run it again")

must(run(["pull", ref]), "the pull after all kills")
result = run(["run", "--pull", "never", "--image", ref, "--", "sh", "-c", "id -u; cat /etc/debian_version"], cwd=work)
must(result, "the run after all kills")
settle("afterwards")
if left := [f for f in os.listdir(work) if not (len(f) == 2 and f[0] == "f")]:
    sys.exit(f"kill.py: left in the project's folder: {left}")
must(run(["gc"]), "gc")
must(run(["gc"], store=clean), "gc")
wanted, got = tree(clean), tree(store)
if got != wanted:
    diff = {k: (wanted.get(k, 0), got.get(k, 0)) for k in wanted.keys() | got.keys() if wanted.get(k) != got.get(k)}
    sys.exit(f"kill.py: the store differs from one never interrupted: {{type depth: (there, here)}} {diff}")
left = [os.path.join(d, f) for d, ds, fs in os.walk(os.path.join(runtime, "cove")) for f in ds + fs]
if new := sorted(set(left) - set(listed)):
    sys.exit(f"kill.py: left in the runtime directory: {new}")
print("kill.py: nothing left; the next run works")
