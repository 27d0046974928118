//! How long the hot pure parts of the data path take: `cargo bench -p tracelift-bench`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tracelift_bench::work;

#[allow(clippy::expect_used, reason = "a benchmark that cannot do its work has nothing to report")]
fn stages(criterion: &mut Criterion) {
    for work in work::all().expect("the rows can be made") {
        let mut group = criterion.benchmark_group(work.name);
        group.throughput(Throughput::Elements(work.size));
        group.bench_function(work.unit, |bencher| {
            bencher.iter(|| (work.run)().expect("the work can be done"))
        });
        group.finish();
    }
}

criterion_group!(benches, stages);
criterion_main!(benches);
