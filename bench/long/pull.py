"""Kill `trine pull` again and again, then share its cache with huggingface_hub.

    pip install huggingface_hub
    cargo build --release
    python bench/long/pull.py target/release/trine --kills 50

A hub on this machine, in this process, has a model of --size bytes. `trine pull` is killed at random moments: no file of the cache ever
has other bytes than the hub's. The pull is then completed, `huggingface_hub` finds what Trine pulled and Trine what `huggingface_hub`
pulled, each without a network, and nothing is downloaded twice. The last line is JSON.
"""

import argparse
import hashlib
import http.server
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import threading
import time

REPO = "owner/Llama-GGUF"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Small files are sent by the hub itself, large ones by a redirect to a name that it does not take tokens for."""

    def __init__(self, files, speed):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.speed = files, speed
        self.hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        self.blobs = {
            name: hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() for name, data in files.items()
        }
        self.sent = 0
        self.leaked = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """A client that is killed is no error."""

    def url(self, host="127.0.0.1"):
        return f"http://{host}:{self.server_port}"

    def large(self, name):
        return name.endswith((".gguf", ".safetensors"))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return
        for start in range(0, len(body), 1 << 16):
            piece = body[start : start + (1 << 16)]
            self.wfile.write(piece)
            self.server.sent += len(piece)
            if self.server.speed:
                time.sleep(len(piece) / self.server.speed)

    def content(self, data, etag):
        wanted = self.headers.get("Range")
        if not wanted:
            return self.reply(200, data, ETag=f'"{etag}"')
        first, last = wanted.removeprefix("bytes=").split("-")
        first, last = int(first), min(int(last or len(data) - 1), len(data) - 1)
        self.reply(206, data[first : last + 1], ETag=f'"{etag}"', Content_Range=f"bytes {first}-{last}/{len(data)}")

    def do_GET(self):
        hub, path = self.server, self.path.split("?")[0]
        if path.startswith("/cdn/"):
            # It is asked for by another name than the hub.
            hub.leaked |= "Authorization" in self.headers
            name = path.removeprefix("/cdn/")
            return self.content(hub.files[name], "of-a-store")
        if path.startswith(f"/api/models/{REPO}/tree/"):
            entries = [self.entry(name) for name in hub.files]
            return self.reply(200, json.dumps(entries).encode(), Content_Type="application/json")
        if path == f"/api/models/{REPO}" or path.startswith(f"/api/models/{REPO}/revision/"):
            lfs = lambda name, data: {"sha256": hub.hashes[name], "size": len(data), "pointerSize": 130}
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": hub.blobs[name]}
                | ({"lfs": lfs(name, data)} if hub.large(name) else {})
                for name, data in hub.files.items()
            ]
            body = {"_id": "0", "id": REPO, "modelId": REPO, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}
            return self.reply(200, json.dumps(body).encode(), Content_Type="application/json")
        name = path.removeprefix(f"/{REPO}/resolve/").partition("/")[2]
        if name not in hub.files:
            return self.reply(404, X_Error_Code="EntryNotFound")
        if not hub.large(name):
            return self.content(hub.files[name], hub.blobs[name])
        self.reply(
            302,
            Location=f"{hub.url('localhost')}/cdn/{name}",
            X_Linked_Etag=f'"{hub.hashes[name]}"',
            X_Linked_Size=str(len(hub.files[name])),
        )

    do_HEAD = do_GET

    def entry(self, name):
        hub = self.server
        size = len(hub.files[name])
        entry = {"type": "file", "path": name, "size": size, "oid": hub.blobs[name]}
        if hub.large(name):
            entry["lfs"] = {"oid": hub.hashes[name], "size": size, "pointerSize": 130}
        return entry


def check(cache, hub):
    """Every file under its final name has the bytes of the hub."""
    root = cache / "models--owner--Llama-GGUF"
    for path in root.glob("snapshots/*/*"):
        if path.name in hub.files and path.exists():
            assert path.read_bytes() == hub.files[path.name], path
    for path in root.glob("blobs/*"):
        if not path.name.endswith(".incomplete"):
            data = path.read_bytes()
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            assert path.name in (hashlib.sha256(data).hexdigest(), git), path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trine", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--size", type=int, default=100 << 20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    trine = args.trine.resolve()
    model = pathlib.Path(__file__).parents[2] / "golden/models/llama/model.gguf"
    rng = random.Random(args.seed)
    files = {"README.md": b"# A model\n", "llama-Q8_0.gguf": model.read_bytes(), "llama-F16.gguf": rng.randbytes(args.size)}
    hub = Hub(files, speed=40 << 20)
    folder = pathlib.Path(tempfile.mkdtemp())
    cache = folder / "hub"
    env = os.environ | {"HF_ENDPOINT": hub.url(), "HF_HUB_CACHE": str(cache), "HF_TOKEN": "hf_secret", "HF_HOME": str(folder)}
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        env.pop(name, None)

    def run(*command, **more):
        return subprocess.run([trine, *command], env=env | more, capture_output=True, text=True, check=True).stdout

    try:
        killed = 0
        while killed < args.kills:
            child = subprocess.Popen([trine, "pull", f"{REPO}:F16"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.02, 0.5))
            child.kill()
            if child.wait() == -9:
                killed += 1
            else:
                run("rm", REPO, "--yes")
            check(cache, hub)
        pulled = json.loads(run("pull", f"{REPO}:F16", "--json"))
        check(cache, hub)
        assert pathlib.Path(pulled["path"]).read_bytes() == files["llama-F16.gguf"]
        assert not hub.leaked, "the token went to another host"
        run("pull", REPO)

        os.environ.update({key: env[key] for key in ("HF_ENDPOINT", "HF_HUB_CACHE", "HF_TOKEN", "HF_HOME")})
        os.environ["HF_HUB_DISABLE_XET"] = "1"
        import huggingface_hub

        hub.speed = None
        # What Trine pulled, Python finds: first without the hub, then with it, downloading nothing.
        found = huggingface_hub.hf_hub_download(REPO, "llama-Q8_0.gguf", local_files_only=True)
        assert pathlib.Path(found).read_bytes() == files["llama-Q8_0.gguf"]
        hub.sent = 0
        again = huggingface_hub.snapshot_download(REPO, allow_patterns="*.gguf")
        assert again == str(pathlib.Path(found).parent)
        assert hub.sent < 1 << 16, hub.sent
        scan = huggingface_hub.scan_cache_dir()
        assert [repo.repo_id for repo in scan.repos] == [REPO] and not scan.warnings, scan
        listed = json.loads(run("list", "--json"))
        assert listed[0]["bytes"] == scan.size_on_disk, (listed, scan)
        # What Python pulled, Trine finds.
        run("rm", REPO, "--yes")
        assert not huggingface_hub.scan_cache_dir().repos
        huggingface_hub.snapshot_download(REPO)
        info = json.loads(run("info", REPO, "--json", HF_ENDPOINT="http://127.0.0.1:1"))
        assert info["architecture"] == "llama", info
        assert json.loads(run("pull", REPO, "--json"))["received"] == 0
        version = huggingface_hub.__version__
        print(json.dumps({"kills": killed, "bytes": args.size, "huggingface_hub": version, "passed": True}))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
