//! The layouts of ternary matrices: what was assumed of them, and whether the model makes sense in another than the one it was read in.

use super::{Check, Context, Finding, Severity, smoke_test};
use trine_model::open_file;
use trine_tensor::{Format, OpenOptions, gguf};

pub(super) const LAYOUT: Check = Check { name: "layout", about: "the order of ternary weights", run };

fn run(context: &mut Context) -> Vec<Finding> {
    let is_nonsense = context.smoke_test.is_some_and(|smoke_test| smoke_test.judge().is_some());
    let better = if is_nonsense { better(context) } else { None };
    if let Some(better) = better {
        return vec![better];
    }
    let assumed = |warning: &String| {
        let remedy = match is_nonsense {
            true => {
                "none of the layouts makes sense of the model: take the file of another publisher, or convert it again"
            }
            false => "nothing, as long as the model makes sense",
        };
        Finding::new(Severity::Note, "the layout of weights was assumed", warning, remedy)
    };
    context.file.warnings().iter().map(assumed).collect()
}

/// The layout in which the smoke test predicts its text best, if it does so well.
fn better(context: &mut Context) -> Option<Finding> {
    let read = context.smoke_test?;
    let mut known: Vec<&'static Format> = Vec::new();
    for view in context.file.tensors().filter(|view| view.format.id.is_some()) {
        if !known.contains(&view.format) {
            known.push(view.format);
        }
    }
    let meanings = known.iter().filter_map(|format| format.id).flat_map(gguf::candidates);
    let others = meanings.filter(|format| !known.contains(format));
    let predicted = others.filter_map(|format| {
        let file = open_file(context.file.path(), &OpenOptions { layouts: vec![format], ..OpenOptions::default() });
        // What does not open or run in this layout does not have it.
        let smoke_test = smoke_test::measure(context, &file.ok()?, None).ok()??;
        smoke_test.judge().is_none().then_some((format, smoke_test.bits_per_byte))
    });
    let (format, bits) = predicted.min_by(|a, b| a.1.total_cmp(&b.1))?;
    let evidence =
        format!("{bits:.2} bits per byte of plain English as {format}, {:.2} as it was read", read.bits_per_byte);
    let remedy = format!("choose the layout with --layout {}", format.name.to_ascii_lowercase());
    Some(Finding::new(Severity::Error, "weights are read in the wrong layout", evidence, remedy))
}
