//! `trine devices`, and `--device` in all commands that run a model.

mod common;

use common::trine_with;
use serde_json::Value;
use trine::EMBEDDED;
use trine_model::DEVICES;

#[test]
fn devices_are_those_of_the_registry() {
    let json: Value = serde_json::from_str(&trine_with(&["devices", "--json"]).out).unwrap();
    let human = trine_with(&["devices"]).out;
    let found = json["devices"].as_array().unwrap();
    let present: Vec<_> = DEVICES.iter().filter(|device| !(device.probe)().is_empty()).collect();
    assert_eq!(found.len(), present.len());
    for (found, device) in found.iter().zip(present) {
        let variants: Vec<_> = (device.probe)().iter().map(|variant| format!("{}:{variant}", device.name)).collect();
        assert_eq!((&found["name"], &found["about"]), (&device.name.into(), &device.about.into()));
        assert_eq!(found["variants"], Value::from(variants.clone()));
        assert!(human.contains(&format!("{}: {}", device.name, device.about)), "{human}");
        assert!(human.contains(&variants.join(", ")), "{human}");
    }
    assert_eq!(json["cpu"]["cores_available"], std::thread::available_parallelism().unwrap().get());
    if cfg!(target_os = "linux") {
        assert!(json["cpu"]["sockets"].as_u64() <= json["cpu"]["physical_cores"].as_u64(), "{json}");
    }
    for fact in ["sockets", "physical", "transparent huge pages", "governor", "swap"] {
        assert!(human.contains(fact), "{human}");
    }
    for advice in json["advice"].as_array().unwrap() {
        assert!(human.contains(advice["command"].as_str().unwrap()), "{human}");
    }
}

#[test]
fn every_device_gives_the_same_answer() {
    let json: Value = serde_json::from_str(&trine_with(&["devices", "--json"]).out).unwrap();
    let variants = json["devices"][0]["variants"].as_array().unwrap();
    assert_eq!(variants.last().unwrap(), "cpu:scalar");
    let names = variants.iter().map(|name| name.as_str().unwrap()).chain(["auto", "cpu"]);
    let answer = |flag: &str, name: &str| {
        let args = ["run", EMBEDDED, "Once", "--temperature", "0", "--max-tokens", "4", "--json", flag, name];
        let ran = trine_with(&args);
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        let isa = name.strip_prefix("cpu:").unwrap_or_default();
        assert!(ran.err.contains(isa), "{name}: {}", ran.err);
        ran.json()["ids"].clone()
    };
    let expected = answer("--isa", "scalar");
    for name in names {
        assert_eq!(answer("--device", name), expected, "{name}");
    }
}

#[test]
fn unknown_devices_exit_with_2_and_the_known_names() {
    let commands: [&[&str]; 4] = [
        &["run", EMBEDDED, "Once"],
        &["bench", EMBEDDED],
        &["embed", EMBEDDED, "Once"],
        &["eval", "perplexity", EMBEDDED, "text.txt"],
    ];
    for command in commands {
        for name in ["tpu", "cpu:mmx", "cpu:", "auto:scalar", "scalar"] {
            let ran = trine_with(&[command, &["--device", name]].concat());
            assert_eq!(ran.code, 2, "{command:?} {name}: {}", ran.err);
            let expected = format!("device `{name}`: expected one of auto, cpu, cpu:");
            assert!(ran.err.contains(&expected) && ran.err.contains(", cpu:scalar"), "{name}: {}", ran.err);
        }
    }
    let both = trine_with(&["run", EMBEDDED, "Once", "--device", "cpu", "--isa", "scalar"]);
    assert_eq!(both.code, 2, "{}", both.err);
}

#[test]
fn doctor_compares_two_devices() {
    let compare = |names: &str| trine_with(&["doctor", EMBEDDED, "--compare-devices", names, "--json"]);
    let same = compare("cpu,cpu:scalar");
    assert_eq!((same.code, &same.json()["findings"]), (0, &Value::Array(Vec::new())), "{}{}", same.out, same.err);
    for (names, expected) in
        [("cpu", "expected two devices, found 1"), ("cpu,cpu,cpu", "found 3"), ("cpu,tpu", "`tpu`")]
    {
        let ran = compare(names);
        assert!(ran.code == 2 && ran.err.contains(expected), "{names}: {} {}", ran.code, ran.err);
    }
}
