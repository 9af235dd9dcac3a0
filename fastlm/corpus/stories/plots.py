"""The plots of the stories.

This file is data in the template language that fastlm.corpus.stories explains. Each line after
`= plot` is a plot; lines that begin with a space continue it, and // begins a new paragraph.
"""

PLOTS = r"""
= plot
<open>
 // {N} had a {color} {toy}[ with a <adj-thing> <color> [stripe|star|ribbon|dot] on it|]. It was
 {his} favorite thing because {his} {E} had [made|bought|found] it [for {him}|for {his}
 birthday|long ago]. <day> {N} took the {toy} to the {place}. <aside> [<came> <play>|{^he} played
 <game> there all by {himself}.]
 // [When it was time to go home, {N} looked down.|Later, {N} was hungry and wanted to go
 home.|Then {N} saw a <bug> and followed it for a while. When {he} came back, {he} stopped.|After a
 <treat> and a short nap, {N} looked around.|{N} put the {toy} down to look at a <bird>. Then {he}
 turned around.] [The {color} {toy} was gone!|There was no {toy} anywhere!|The {toy} was not
 there!|Where was the {color} {toy}?] [<sorrow>|"Oh no! Where is my {toy}?" <Nsad>.] <notfind*>
 <aside>
 // [Then|Just then|At last], {he} [heard|noticed] {sound} <spot@place>. {^he} [went|crept|walked]
 closer and found a [tiny|small|little] {creature}. It was [sleeping on|hugging|sitting
 beside|playing with] the {color} {toy}! ["You like my {toy}, too," <Ns>.|{N} laughed so hard that
 the {creature} woke up.] {N} gave the {creature} a {petfood}, and the {creature} let {him} take
 the {toy} [back|home].
 // <joy> [After that|From then on|Now], {he} [looked after|took good care of|kept an eye on] the
 {color} {toy}, and [sometimes|every {weekday}] {he} [took|brought] it to the {place} so that the
 {creature} could play with it. [<home>|<wise>|]
<open> [<meetF>|<came>]
 // <day> {N} had {n} {treat+} in a [<color>|<adj-thing>] [bag|box|basket|bowl]. {^he}
 [went|<walked>] to the {place} and sat down <spot@place> to eat them. {F} came [along|by|over] and
 looked at the {treat+}. "[May|Can] I have some? I did not eat [breakfast|lunch]," <Fs>.
 // [{N} did not want to share.|{N} held the {treat+} close.] "They are [all|] mine," <Ns>. {F}'s
 [eyes|ears] drooped, and {he2} [walked|went] away. {N} ate {k} of the {treat+}, but [they did not
 taste so good|somehow {he} felt <sad>]. Now there {was#left} {left} {treat#left} left.
 [<worry>|<think>|]
 // [{N} got up and ran after {F}|{N} jumped up and called {F} back]. "I am sorry. [Please|You can]
 take {it#left}. {^left} {treat#left} for you!" <Ns>. {F} [smiled|beamed|was surprised]. "Thank
 you! [Let us|We can] [eat|share] {it#left} together," <Fh>. They sat side by side and ate
 {it#left} with <drink>.
 // [<hug> |] <learned> [food tastes|{treat+} taste] [better|best] [with a friend|when you
 share|when nobody is left out]. [<home>|<wise>|]
<open>
 // {N} was [very|a little|so|really] [afraid|scared|frightened] of [|only one thing: ]the {dark}.
 [Whenever|Every time] {he} had to go [there|near it|past it], {his} [tummy|heart]
 [hurt|jumped|felt cold]. [<meetF>|{F}, {his} {kind2} friend, did not know about it.]
 // <day> {N} lost {his} {color} {toy}. It had [rolled|fallen|gone] right [into|toward] the {dark}!
 "I can not go [in|there]," <Nsad>. {F} [took|held] {his} hand. "I am here. We can [take|go] one
 [small|little] step at a time," <Fs>.
 // {N} took one step. <worry> [{^he} wanted to run away.|{^he} stopped.] [<^sound2> made {him}
 jump, but it was only a <bug>.|] Then {he} took [another|a second] step, and [another|a third].
 [{F} sang a little song.|{F} counted out loud.|They sang about <flower>.] Soon {N} could see the
 {toy}, and {he} [grabbed|reached|took] it. "[Look|Hey]! I did it! It was not so bad," <Nh>.
 // <hug> {N} was still a little <scared>, but {he} [went|walked] [in|back] again the next day, and
 the day after that. <learned> [being brave means|courage is] [trying|going on] even when [you are
 afraid|your knees shake]. [<home>|]
<open>
 // [{^his} {E}|{N}'s {E}] had a {color} {fragile} that [stood|sat] [on the table|near the
 window|on the shelf]. It was [very|] old, and {N} [was not allowed to|must not|should not] touch
 it. <day> {N} played <game> [in the house|inside]. [<worry>|] {^he} [ran|jumped|turned] too fast
 and bumped into it. Crash! The {fragile} [broke|fell and broke] into {n} pieces.
 // [<sorrow>|{N} was very <scared>.] {^he} hid the pieces <indoors>. When {his} {E} came
 [in|home], {he3} [asked|wanted to know], "Where is my {fragile}?" [{N} looked at the floor.|{N}'s
 cheeks got hot.] "The {pet} [broke it|did it|knocked it over]," {he} [said|whispered|lied]. {^his}
 {E} [sent|put] the poor {pet} [outside|out in the cold].
 // {N} heard the {pet} [crying|scratching at the door], and {he} could not [eat|play|sleep|think
 of anything else]. [<worry>|] At last {he} went to {his} {E}. "It was not the {pet}. It was me. I
 broke the {fragile}, and I am sorry," <Nsad>. [{^his} {E} was quiet for a moment.|{^his} {E} put
 down the <keepsake> in {his3} hand.|It was so quiet that one could hear a <bug>.|{^his} {E} looked
 at {him} for a long time.] "I am sad about the {fragile}, but I am [glad|proud] that you told me
 the truth," {he3} said.
 // Together they let the {pet} in and [gave it|fed it] a {petfood}. Then they glued the {n} pieces
 [back|] together with {color2} glue. <learned> [the truth|telling the truth] is [hard|scary] at
 first, but [a lie is heavier|it makes the heart light|it is better than a lie]. [<home>|]
<open> <meetF>
 // <day> {N} and {F} were playing with {F}'s {mendable} [<at@place>|near] the {place}.
 [<play>|<aside>|] {N} [pulled too hard|pulled at it|leaned on it|wanted to show it to a
 <bird>|turned around to look at a <creature>], and [crack|snap|crash|oh no]! [The {mendable} was
 broken.|A piece of the {mendable} came off.|The {mendable} fell apart.|There was a long crack in
 the {mendable}.|The {mendable} lay in two pieces.] {F} [began|started] to cry. "[My {kin} gave it
 to me|It was from my {kin}|My {kin} made it for me|I got it for my birthday from my {kin}],"
 <Fsad>. [<sorrow>|{N} felt <sad>, too.]
 // "[Do not|Please do not] cry. I will fix it," <Ns>. First {he} tried with [wet leaves|mud|a
 ribbon|grass|old gum], but it [fell off|did not hold|came apart]. [Then {he} tried with a [<color>
 ribbon|piece of bark|shoelace|blade of grass], and that did not work [either|at all].|] So {N}
 went to the {H}. "Can you help [me|us]? [I broke the {mendable} of my friend|This {mendable} is
 broken, and it was me|We need to mend this {mendable}|It is a {mendable}, and I must make it
 whole]," <Ns>.
 // The {H} [smiled|nodded] and gave {him} {mendwith}. "[Work slowly|Take your time|Be patient],"
 <Hs>. {N} worked [until {his} fingers hurt|all {part}|for an hour], and {F} held the pieces. At
 last the {mendable} was [whole|good] again. [It was even <color> now, because {N} had painted
 it.|There was just one tiny crack.|{N} had even painted a <color> <creature> on it.|{N} tied a
 <color> ribbon around it.]
 // "[It is|It looks] [better than before|as good as new]!" <Fh>. <hug> <learned> [what is broken
 can often be mended|a good friend tries to put things right|saying sorry is good, and helping is
 better]. [<home>|]
<open> <meetF>
 // [{N} and {F}|The two friends] wanted to build a {build} [<at@place>|near] the {place}. They
 [gathered|carried|found|got|asked the <helper> for] {n} [big|long|heavy] beams and many
 {material}. <aside> "[It will be|This will be] the [best|biggest|finest] {build} [ever|in the
 world]!" <Nh>.
 // <failbuild*> {F} [kicked a stone|sat down]. "[We can not do it|It is too hard|Let us give up],"
 <Fs>. <think> "[Maybe|I think] [we need|it needs] a [strong|wide|flat] [bottom|floor|base]," <Ns>.
 They [asked the {H}|went to the {H}], who [lent|gave] them {buildwith}. [This time they worked
 slowly.|They began again, from the ground up.|Now they took their time.|They drew a plan first,
 with a [stick|stone] in the sand.|They worked until the <bird+> went to sleep.] {N} [held|carried]
 the {material}, and {F} [tied|fixed|put] them [together|in place].
 // When the sun [went down|was low], the {build} stood [strong|straight|still]. [Even the wind
 could not knock it down.|A <bird> sat on top of it.|The {H} came to see it and clapped.] "[We did
 it|It stands|Look at it]!" <Fh>. They [named it|called it] "The <crest> <^bird>" and [ate|had]
 <food> [inside|beside|next to] it. <learned> [it is all right to fail|you can try again|two
 friends can do more than one], [as long as you try again|and every mistake can teach you
 something|and patience pays].
<open> [{N} always wanted to win.|{N} was the fastest {noun} in the {village}.|{N} [often|always]
 said, "I am the fastest!"] [<meetF>|]
 // <day> there was a race <at@place> the {place}. The [prize|winner] [was|would get] a {color}
 {keepsake}. [{N} and {F} stood at the line.|{N}, {F}, a <trait> <creature>, and many others took
 their places.|{N} stood between {F} and a <helper>.|{F} wore a <color> <wear>, and {N} wore a
 <color> one.] "[Ready|One, two, three], go!" [shouted|called] the {H}. [<worry>|<aside>|] {N} ran
 [like the wind|as fast as {he} could|like a <trait> <creature>|as if a <creature> were behind
 {him}] past [the|a] [big|old|tall] <tree> and over the [little|] [bridge|stream|hill]. {^he} was
 first!
 // [Then|Suddenly], {he} heard {sound} behind {him}. {F} had [slipped|tripped|fallen] <spot@place>
 and [hurt|twisted] {his2} [foot|knee|leg]. [<think>|{N} looked at the finish line. Then {he}
 looked back.] {N} [wanted|still wanted] to win the {keepsake}, but {he} [turned around|stopped|ran
 back]. "[Lean on me|Take my hand|Hold on to me]," <Ns>. Step by step, they [walked|went|limped]
 [on|to the end] together. [Everyone else was already there.|They came in last.|A <trait>
 <creature> had won long ago.|Even a <bug> might have been faster.]
 // [The crowd clapped|All the people cheered|A <helper> and a <helper> clapped|{^his} {E} cheered
 loudest of all] for them. The {H} gave the {keepsake} to the winner, but {he4} gave {N} [a big
 hug|a {treat}|a <color> flower], too. "You [lost|did not win] the race, but you [won|have]
 something better," <Hs>. "{^F} is your friend [for life|forever]." <hug> <learned> [being kind
 is|a friend is] [more important|worth more] than [winning|a prize|being first].
<open>
 // One {storm}, the sky turned [gray|dark|black]. The wind [blew|howled|roared], and the
 [rain|hail] [hit|beat on] the [roof|windows]. [Boom went the thunder!|A <tree> creaked.|The lights
 went out.] {N} was <scared> and hid <indoors>. "[Is the storm going to|Will the storm] [hurt
 us|blow our house away|go on all night]?" <Na>. {^his} {E} [sat down beside|came to] {him}. "[No,
 little one|No, dear]. We are [safe|warm] [in here|together]," <Es>. [They counted the seconds
 between the flashes and the thunder.|They lit a candle and sang.|They ate <food> and played
 <game>.|{^his} {E} told a story about a <trait> <creature>.]
 // Then they heard {sound} at the door. {N} [listened|stood up]. [It was hard to leave the hiding
 place.|<worry>|] [{^he} opened the door, and there was a wet {creature}.|Outside, in the rain, sat
 a {creature}.|On the step stood a {creature}, as wet as a sponge.|When the door was open, in came
 a {creature} with wet ears and {n} <color> leaves on its back.] It was [shaking|shivering] [with
 cold|all over]. [{N} forgot about the thunder.|{N} did not even hear the thunder now.|Boom, went
 the sky, but {N} only looked at the {creature}.|There was no time to be <scared> now.] {^he}
 [wrapped|dried] the {creature} in {his} {color} {dry} and gave it a {petfood}. "[Do not be
 afraid|You are safe here|It is only noise]," <Ns>. "[It is only a storm|The storm will pass|We are
 warm in here|I am here|Even a <creature> would be safe here|It sounds like a big <instrument>]."
 // [In the morning|When the rain stopped], the sun [came out|was back], and there was a
 [big|wide|bright] rainbow. The {creature} [went|ran off] [home|outside], but it [looked
 back|turned around] once, as if to say thank you. "You were [very|so] brave [last night|in the
 storm]," <Es>. {N} [smiled|thought about it]. <learned> [it is easier to be brave when you|you
 forget your own fear when you] [help|take care of] somebody [else|smaller].
<open>
 // It was [the birthday of {his} {E}|almost {his} {E}'s birthday], and {N} wanted to bake a
 {flavor} {bake}. [<came>|{F}, {his} friend, came to help. {^F} was a {kind2}.] "We need
 [flour|butter], {n} eggs, and a cup of {flavor2} [jam|juice|syrup]," <Ns>. [They put on <color>
 aprons.|{F} read the recipe.] {N} carried the {n} eggs, but {he} [tripped|slipped] over a {toy}.
 [Splat!|Crack!] {^k} {egg#k} broke, so only {left} {egg#left} {was#left} left. [<sorrow>|"Oh no!"
 <Nsad>.]
 // "[We can|Let us] ask the {H} for more," <Fs>. They [ran|went] to the {H}. {^he4}
 [smiled|nodded]. "I will give you {k} {egg#k} if you [sweep my floor|water my <flower>|feed my
 {pet}|carry this box]," <Hs>. So they [did|helped], and then they had {n} eggs again. They
 [stirred|mixed] and [stirred|mixed], and [flour|butter] got [on {F}'s nose|everywhere|in {N}'s
 hair].
 // [The first {bake} burned, and the kitchen was full of smoke.|They forgot the sugar and had to
 begin again.|It took a long time in the oven.] But [at last|in the end], the {bake} was
 [golden|perfect] and smelled [wonderful|of {flavor}]. {N}'s {E} [came home|opened the door] and
 could not believe it. "You made this for me? It is the best [gift|{bake}] [ever|I have ever had]!"
 <Es>. <Ehug> [They all|Everybody] ate a [big|small] [piece|bite]. <learned> [things go wrong when
 you bake, but|small accidents do not matter when] [friends help|you keep trying].
<open>
 // <day> [{his} {E}|the {H}] gave {him} a [tiny|small|little] [brown|black|round|white] seed.
 "[Water it|Give it water] every day[,| and keep it warm,] and wait," {he3} said. [{N} planted the
 seed <spot garden>.|{N} put it in a {color} pot.] [The next morning|That night], {he} went to
 look, but there was [nothing|only a <bug>]. [The [second|next] day there was nothing,
 [either|too].|The next day a <bird> sat there, but nothing grew.|After two days, all {he} could
 see was dirt.] "[Why does it not grow|Is it sleeping|When will it grow]?" <Na>. "[Be patient|Wait
 a little|Good things take time]," <Es>.
 // {N} [watered|sang to|talked to] the seed [every|each] morning. {n} days went by, and {he}
 [almost|nearly] gave up. [<came> "[It is dead|Nothing will grow there]," <Fs>. But {N} did not
 stop.|Once a <bird> wanted to eat it, but {N} [chased|shooed] it away.|It was very hot, so {N}
 made a little roof of <color> paper.]
 // Then, one {fair} morning, there was a [tiny|small] green [leaf|sprout]! "[Look|Come and
 see|Come quick]!" <Nh>. [It grew and grew.|Soon it reached up to {N}'s [nose|shoulder|knees].] [By
 {season}|After some weeks|In the end], it was a [big|tall|beautiful] {plant} [with <color>
 [leaves|flowers]|that was taller than {N}]. [All the neighbors|The <bird+> and <bug+>] came to see
 it.
 // "You [took care of|looked after] it when you could not see anything," <Es>. <learned> [big
 things begin small|waiting is hard, but it is worth it|if you take care of something, it will
 grow]. [<home>|]
<open>
 // <day> {N} <walked> to the {place}. <aside> [Suddenly|Then|All at once], {he} heard {sound}
 <spot@place>. It was a {creature} [with a hurt leg|that could not walk|caught in a
 [net|string|bush]]. "[Poor thing|Oh dear]! [I will help you|Do not be afraid]," <Ns>.
 // [First|At first], the {creature} was <scared> and [tried to get away|hid its face|made itself
 small]. {N} [sat down|waited] and held out a {petfood}. [After a while|Slowly], the {creature}
 came closer and [ate|sniffed it]. {N} [wrapped|put] it in {his} {color} {dry} and carried it to
 the {H}. "Can you [help it|make it better]?" <Na>. The {H} [looked at|felt] the {creature} [with
 care|gently]. "It needs [rest|sleep] and [food|care] for {n} days," <Hs>.
 // So {N} made a [bed|nest] from a [box|basket] and [soft|dry] [hay|wool|leaves]. Every day {he}
 [brought|gave it] food and [water|<drink>]. [On day two it slept.|Some nights {he} woke up to
 check on it.|{F}, {his} friend, came to help.] After {n} days, the {creature} could [jump|run]
 again! [<joy>|]
 // It was [hard|sad] to say goodbye, but {N} knew that the {creature} [missed its family|belonged
 outside]. [{^he} took it back to the {place} and let it go.|At the {place}, {he} opened the
 [box|basket], and off it went.|They walked to the {place} one more time, and there {he} said, "Be
 well, little one."|So one {fair} {part} {he} set it down <spot@place>, where {he} had found it.]
 [A week|Some days|A month] later, there was a [<color> feather|shiny stone|little flower|ripe
 berry] at {his} door. "[I think|Maybe] it [wanted to say|came to say] thank you," <Es>. <learned>
 [even small acts of kindness matter|when you are gentle, others trust you|love sometimes means
 letting go].
<open>
 // A new family [moved in|came] [next door|to the {village}]. They had a <trait> {kind2} named
 {F}. [{^he2} did not know anyone.|{F} [looked|was] <sad>.] <day> {N} saw {F} [sitting|standing]
 <spot@place> [<at@place>|near] the {place}, all alone. {N} wanted to say hello, but {he} was
 [shy|<scared>]. [<worry>|]
 // The first day, {N} only [smiled|waved]. [{F} looked away.|{F} looked at {his2} feet.|{F}
 pretended to watch a <bug>.|{F} did not smile back.] The [next|second] day, {N} [put|left] a
 {treat} on the bench for {him2}. [{F} ate it when nobody was looking.|A <bird> ate it before {F}
 came!] [On the third day|Then], {N} [took|brought] {his} {color} {toy} and sat down beside {F}.
 "[My name is|Hi, I am] {N}. Do you [like|want] to <hobby>?" <Na>.
 // {F} [looked up|was quiet for a moment]. "Yes! [At my old home|Where I come from], I [often did
 that|did that a lot]," <Fs>. "[But here I have no friends|But nobody asked me]." "[Now you have
 one|Now you have me|You have one now]," <Ns>. They played with the {toy}, and then they played
 <game>. <aside>
 // [From that day on|After that], {N} and {F} met <at@place> the {place} every {weekday}. [{F}
 taught {N} how to <hobby2>.|{N} taught {F} how to <hobby2>.] <learned> [one kind word can make a
 friend|somebody has to say hello first|a new friend may be waiting for a smile]. [<home>|]
<open>
 // {N} had [made|given] {his} {E} a promise. {^he} would [feed|look after] the {pet} [every
 day|each evening] while {his} {E} was away for {n} days. "[You can trust me|I promise]," <Ns>.
 [The first day|At first], all went well. {N} gave the {pet} a {petfood} and [fresh|clean] water.
 // [But then|On the second day], {F} came to the door. "[Come|Let us go] to the {place}! We will
 play <game>," <Fh>. {F} was a {kind2} and {N}'s [best|good] friend. {N} [went|ran] with {him2},
 and they had [so much|a lot of] fun. <aside> [{^he} forgot all about the {pet}.|The {pet} was far
 from {his} thoughts.|Nobody thought of the {pet}.|Not once did {he} think of the {pet} at
 home.|They stayed until {he} was as tired as a <creature>, and the {pet} was forgotten.]
 // [When it was dark|Late that night], {N} [remembered|sat up in bed]. "[The {pet}|Oh no, the
 {pet}]! I promised!" <Nsad>. {^he} ran [to look|downstairs]. The {pet} was [hungry and sad|lying
 by the empty bowl|hiding <indoors>]. {N} [hugged|petted] it and gave it [twice as much food|food
 and water]. "I am [so|very] sorry," <Ns>. "[It will not happen again|From now on I will feed you
 before I play]."
 // {N} [made|drew] a <color> [sign|note] that said "First the {pet}!" and [hung|put] it [on|next
 to] the door. And it worked. When {his} {E} came home, the {pet} was [happy|fat|well], and {N}
 told {him3} [everything|about the bad day, too]. "[A promise is|Keeping a promise is] like
 [carrying|holding] an egg," <Es>. "You must [not drop it|think of it all the time]." <Ehug>
<open> <meetF>
 // <day> {N} found a [strange|old|secret|torn] map [in|inside] a <adj-thing>
 [book|box|jar|bottle]. [There was a <color> X on it.|A <color> line ran across it.] "[It is|This
 must be] a treasure map!" <Nh>. "[Let us follow it|We must find it|Come on]!" <Fh>.
 // The map [led|took] them [past a [big|crooked] <tree>|behind the house of the <helper>|along a
 row of <flower>|around an old <adj-thing> wagon], [over a [stone|wooden] bridge|through a
 gate|across a field of <flower>], and to the {place}. <aside> They [counted|took] {n} steps from
 the [gate|old well|big rock]. "[Dig here|It should be here]," <Ns>. They dug <spot@place>, but
 they only found a [rusty|broken|bent] <keepsake>. [{F} turned the map around.|{F} looked at the
 map again.] "[We held it upside down|We counted wrong|You took big steps, and the map means small
 ones]!" <Fs>.
 // So they [went back|began again] and dug <spot@place>. Clunk! There was a {color} [box|chest].
 <failopen*> Then {F} [saw|noticed] a tiny key [on a string|under a stone|taped to the map]. Click!
 Inside were [many|a lot of] {treasure} and a [letter|note]. It said, "[Whoever finds this|Dear
 finder], share it [with a friend|and be happy]."
 // [{N} and {F} looked at each other and laughed.|<hug>] They [divided|shared] the {treasure}: one
 for {N}, one for {F}, [and so on|again and again], until all were gone. [They put one back for the
 next finder.|The {H} got some, too.] <learned> [a treasure is|adventures are] [best|more fun]
 [when you share|with a friend]. [<home>|]
<open>
 // <day> {N} <walked> to the {place} and [found|picked up] a [strange|dusty|warm] {color}
 {keepsake}. When {he} rubbed it, a [tiny|small] [voice|<bird>|fairy|<bug>] [came out|appeared|said
 hello]. "[I will grant you|You may have] three wishes," it said. "[But choose well|Think first]!"
 // {N} did not think. "I [wish for|want] a [mountain|house full] of {treat+}!" <Nh>. Poof! There
 they were. [{^he} ate {n} of them, and {his} tummy hurt.|{^he} ate and ate, and after {n} of them
 {he} felt sick.|After {n} of them, {he} was as round as a <fruit>.|The first was good, the second
 was all right, but after {n} of them {he} never wanted to see one again.] "I wish [they were
 gone|all the {treat+} were gone]," {he} [groaned|sighed]. Poof! [The {treat+} were gone.|It was
 empty again.] Now {he} had only one wish left. [<think>|<worry>|]
 // [Just then|On the way home], {he} met {F}, a {kind2} who [was crying|looked <sad>]. "[My {kin}
 is sick|My {mendable} is broken|I lost my {toy}|I am so lonely here], and I do not know what to
 do," <Fsad>. {N} looked at the {keepsake}. {^he} had [wanted|thought of] a [pony|boat|castle], but
 {he} closed {his} eyes and said, "I wish that [everything|all] will be [well|good] for {F}." Poof!
 // {F} [laughed|jumped up]. "[How did you do that|Did you do this|What happened]?" <Fa>. "[It was
 only a wish|I just wished it]," <Ns>. The {keepsake} was [cold|just a {keepsake}] now, but {N} did
 not mind, because {he} had a [new|true] friend. <learned> [the best wish is one for somebody
 else|a wish spent on a friend is never lost|more is not always better].
<open>
 // <day> {N} wanted to buy [a|the] {color} {toy} at the market. [It cost {n} coins, but {he} had
 only {k}.|The price was {n} coins. {N} counted what {he} had: {k}.|"That makes {n} coins," said
 the seller. {N} had {k}.] [{^he} needed {left} more {coin#left}.|So {left} {coin#left} {was#left}
 missing.] "[How can I get|Where can I find] {left} {coin#left}?" <Na>. "You [could|can|might]
 [work for it|help somebody]," <Es>.
 // {N} went to the {H}. "[Do you need help|Can I do some work for you]?" <Na>. The {H} [scratched
 {his4} head|nodded]. "[Yes|Of course]! You can [wash|sort|stack|carry] my
 [pots|baskets|boxes|bottles]," <Hs>. {N} worked all {part}. [It was hard, and {his} arms
 hurt.|{^he} dropped one, but the {H} only laughed.|<aside>] [At the end, the {H} gave {him} {left}
 {coin#left}.|"Here {is#left} your {left} {coin#left}, and a <treat>," <Hs>.|When it was done, the
 {H} paid {him} {left} {coin#left}.|For that {he} got {left} {coin#left} and a pat on the back.]
 Now {he} had {n} coins!
 // {N} [ran|skipped] to the market with the coins. On the way, {he} saw {F}, a <trait> {kind2},
 who was [crying|looking for something]. "I lost the money for [bread|my {kin}'s medicine|milk],"
 <Fsad>. [<think>|<worry>|] {N} looked at {his} {n} coins. {^he} [took a deep breath and|] gave
 them [all|] to {F}. "[The {toy} can wait|You need them more than I do]," <Ns>.
 // [A week later|The next day], somebody [knocked at|came to] the door. It was {F} with a box.
 [Inside was the {color} {toy}!|In it lay the {color} {toy}, tied with a <color> ribbon!|{N} opened
 it and could not believe it: the {color} {toy}!|Under some paper was the {color} {toy}!] "[We|My
 {kin} and I] [found the lost money|got our money back], and we [bought|wanted you to have] this,"
 <Fh>. <hug> <learned> [a good heart is richer than a full purse|what you give comes back to
 you|kindness is worth more than coins].
<open>
 // {N} had [a|one] bad habit: {he} never [cleaned up|put things away]. [<aside in>|] "[Please
 clean your room|You should tidy up]," <Es>. "[Later|Tomorrow|Not now]," {N} always
 [said|answered]. [Day after day|Week after week], the pile [grew|got bigger]. [There were <color>
 socks, a {toy2}, {n} books, and even an old {treat}.|In it were a {toy2}, {n} books, <color>
 socks, and a <adj-thing> <keepsake>.|One could see <color> socks, some books, a <keepsake>, and a
 {toy2}.]
 // <day> {N} wanted to show {his} {color} {toy} to {F}, {his} [best|good|new|dear] friend. But
 {he} could not find it! {^he} looked <indoors>. {^he} looked <indoors>. [{^he} stepped on a <toy>
 and hurt {his} foot.|A <bug> jumped out at {him}.|The pile fell on {him}.] [<sorrow>|"Where is
 it?" <Nsad>.] {F} [looked around|laughed]. "[How can you find anything here|It looks like a storm
 came in]?" <Fa>.
 // "[Will you help me|Can you help me clean up]?" <Na>. So they put the books on the shelf, the
 socks in the drawer, and the {toy2} in a box. [It took a long time.|They made a game of it.|They
 sang while they worked.] And there, <indoors>, was the {color} {toy}!
 // "[From now on|Now] every thing has a [home|place]," <Ns>. {^his} {E} [came in|looked in] and
 [nearly fell over|could not believe {his3} eyes]. "[What a surprise|How nice it is in here]!"
 <Es>. [They all had <food>.|{^he3} made <food> for both of them.] <learned> [a little work each
 day|putting things away] [saves|is less trouble than] [a lot of|long hours of]
 [looking|searching].
<open> <meetF>
 // <day> {F} did not come out to play. "{^F} is sick [today|and has to stay in bed]," <Es>. {N}
 was <sad>. <aside> "[What can I do|How can I help {him2}]?" <Na>. "[You could|Maybe you can]
 [cheer {him2} up|make {him2} smile]," {his} {E} [said|answered].
 // {N} made a [big|lovely] [card|picture] with [<color> <flower> and a <color> <creature>|a
 <creature> in a <color> <wear>|a <trait> <bug> and <fruit+>|{n} <color> <bird+>] on it. Then {he}
 [picked|took] {n} {fruit+} [for {F}|] and [walked|went] to {F}'s house. On the way, {he} was
 hungry and ate {k} of the {fruit+}. [{^he} felt bad about it.|"Oops," {he} said.] Now {he} had
 {left} {fruit#left}.
 // {F} lay in bed with a <color> [blanket|scarf]. [{^his2} nose was red.|{^he2} looked pale.] "I
 brought you {left} {fruit#left}. [There were {n}, but I ate {k}|I picked {n}, and {k} went into my
 tummy|I must tell you that I ate {k} of the {n}]," <Ns>. {F} [laughed|smiled], [and then {he2}
 coughed|even with a sore throat]. "[You are funny|You make me feel better]," <Fs>. {N} [read|told]
 {him2} a [long|funny] story about a <trait> <creature> [who wanted to fly|and a <color> {toy}|who
 lost its way].
 // After {n} days, {F} was well again. [The first thing {he2} did was [run|go] to {N} with a
 basket.|{^he2} came to {N}'s door with a <adj-thing> bag.|{^he2} [ran|came] over with {his2} {kin}
 and a [box|bowl].] "[Here are|I brought you] {k} {fruit#k}, because you ate {k}," <Fh>. [They
 laughed and laughed.|<hug>] Then they played <game> <at@place> the {place}. <learned> [a visit|a
 friend] is [often|sometimes] the best medicine.
<open>
 // {N} [wanted|wished] to learn to [ride|use] {his} new {color} {ride}. "[It looks easy|I can do
 it]," <Ns>. <day> {he} took it to the {rideplace}. <aside>
 // [The first time|At first|On the first try], {N} [fell|slipped|tipped over] after
 [two|three|four] [seconds|steps]. <failride*> [<sorrow>|"I will never learn it," <Nsad>.] [{N}
 threw the {ride} into the grass.|{N} wanted to go home.|{N} gave the {ride} a kick.|{N} sat down
 under a <tree> and pulled out some grass.] {^his} {E} sat down beside {him}. "[Do you know|Did you
 know] how many times I fell when I was [small|your age]? [One hundred times|{^n} times in one
 day|More than I can count]," <Es>. {N} [had to laugh|looked up]. "[Really|Is that true|You fell,
 too]?" <Na>.
 // So {he} tried again. {^his} {E} [held|walked beside] {him} at first[, and {his} friend {F}
 cheered|]. One [second|step] became {n}, and {n} became {ten}. [Then|Suddenly], {N} [saw|noticed]
 that nobody was holding {him}. {^he} was [doing it|riding|rolling along] [all alone|all by
 {himself}|as light as a <bird>|like a real {noun}]! "[Look at me|I can do it|I am doing it]!"
 <Nh>.
 // [<joy>|] {N} went around the {rideplace} [two|three|four] times. [The {H} waved.|A <creature>
 ran after {him}.|A <helper> threw a <wear> into the air.|Even the <bird+> seemed to cheer.|A {pet}
 ran after {him}.] <learned> [falling is part of learning|you only fail when you stop trying|nobody
 is good at something the first time]. [<home>|]
<open>
 // {N} and {his} {E} went to the {place} to [pick|look for] [berries|mushrooms|<flower>|nuts].
 "[Stay close to me|Do not run off|Stay where I can see you]," <Es>. "[Yes|All right|I promise],"
 <Nr>. But then {he} saw a [big|beautiful] <color> {bug}. It [flew|went] [here and there|from leaf
 to leaf], and {N} [ran after|followed] it.
 // When {he} looked [up|around], {he} did not [know|see] where {he} was. [<^spot@place> there was
 nobody.|Every <tree> looked the same.] "[Hello|Where are you]?" <Na>. Nobody answered. <sorrow>
 [<worry>|] Then {N} remembered what {his} {E} had [said|taught {him}]: "If you are lost, stay [in
 one place|where you are], and [make noise|sing loudly]."
 // So {he} sat down under a {tree} and sang a song about a {creature}. [{^he} sang it {n}
 times.|{^he} sang of its <color> <wear> and its friend, the <creature>.|{^his} voice shook, but
 {he} did not stop.] [A <trait> <creature> came and listened.|The {bug} sat down on {his}
 [knee|hand].] Soon, {he} heard steps. [It was the {H}! "I heard [you|singing]. Come, I will take
 you to your {E}," <Hs>. And [soon|there] {his} {E} [came running|stood on the path].|"{N}! There
 you are!" {his} {E} [called|cried].]
 // <Ehug> "[You did the right thing|It was good that you stayed in one place]," {his} {E} [said
 softly|sighed]. "I am sorry I [ran off|followed the {bug}]," <Ns>. <learned> [it is wise to
 listen|rules are there to keep us safe|staying calm can save the day]. [<home>|]
<open> <meetF>
 // [One winter morning, everything was white.|In the middle of winter, {N} looked out of the
 window.|All night it had snowed.|One cold {weekday}, the {village} was under a white blanket.|The
 first winter day was as white as milk.] "Snow! [It snowed|Come out]!" <Nh>. {N} and {F} [put
 on|pulled on] their [boots|coats|hats] and [ran|went] to the {place}. They [rolled|made]
 [two|three] big balls and [built|made] a [snowman|snow {creature}|snow bear]. They gave it a
 {color} scarf, [stones|buttons|nuts|acorns] for eyes, and a [carrot|stick|<fruit>|pine cone] for a
 nose.[ It looked like a <trait> <helper>.|] "[We will call it|Its name is] {snowname}," <Fs>.
 // Every day they [came back|said hello] to {snowname}. But after {n} days, the sun [grew|got]
 warm, and {snowname} [began|started] to melt. [<sorrow>|"Do not go away!" <Nsad>.] They [held up
 an umbrella|packed on more snow|tried to make shade], but it did not help. At last there was only
 a puddle and a wet {color} scarf.
 // "[Where did it go|Is it gone forever]?" <Na>. "[The water goes into the ground|It has not gone
 far|Snow turns to water]," <Es>. "[Wait until spring|Let us see what happens]." And in spring,
 [right there|in that very spot], <flower> [came up|grew], {color} like the old scarf of
 {snowname}. "[Hello again|There you are], {snowname}!" <Nh>. <learned> [nothing good is ever
 really lost|when one thing ends, another begins]. [<home>|]
<open>
 // {N} [played|could play] the {instrument} [very well|better than anyone], but only when nobody
 [listened|was there]. "[There is a show|They will have a concert] on {weekday}. Will you play?"
 <Ea>. {N} [shook {his} head|turned red|wanted to say no]. "What if [I make a mistake|everybody
 looks at me|they laugh|I forget it all]?" <Nsad>.
 // "[Play for the <bug+> first|Play for the {pet} first|Try it on one listener]," <Es>. So {N}
 [played|sat down and played] for the {pet}. The {pet} [yawned|fell asleep|wagged its tail]. The
 next day {he} played for {F}, a {kind2} from [the house next door|down the road]. {F}
 [clapped|hummed along]. Then {he} played for {n} [neighbors|friends], and {his} hands shook only a
 little.
 // On {weekday}, the [hall|barn|big tent] was full. <worry> {^he} [looked for|found] {F} in the
 [first|last] row, and {F} [waved|smiled]. {N} [began|started] to play. [Once {he} hit a wrong
 note, but {he} went on.|The {instrument} squeaked once, and somebody giggled.] When it was over,
 everybody [stood up|cheered] and clapped.
 // "[Were you afraid|Was it bad]?" <Ea>. "[Yes, a little|Only at the start]," <Nr>. "[But it was
 fun, too|And I want to do it again]!" <learned> [small steps lead to big ones|you can be <scared>
 and still do it]. [<home>|]
<open>
 // {^his} {E} had [wonderful|good|great] news. "[Soon|In {season}] there will be a [new|little]
 baby in our [house|family]," <Es>. At first {N} was <glad>. But when the baby came, it
 [cried|slept|ate] all day, and nobody had time for {N}. [<sorrow>|"I do not like the baby,"
 <Nsad>.] [{^he} hid <indoors> and nobody looked for {him}.|{^he} kicked {his} {color} {toy}
 <indoors>.]
 // <day> the baby cried and cried. {^his} {E} tried <food>[, a song,|] and a [walk|blanket], but
 nothing helped. {N} came [closer|out]. {^he} [made|pulled] a face like a {creature} and
 [shook|held up] {his} {color} {toy}. The baby stopped crying. It looked at {N} with big
 [round|dark] eyes and [laughed|smiled]!
 // "[Did you see that|How did you do that]?" <Ea>. "[The baby likes you best|It is your very first
 joke for the baby|Nobody else could do that]." {N} felt [tall|<proud>]. [That night {he} put the
 {toy} next to the baby's bed.|{^he} gave the baby the {toy} to hold.|From then on, {N} made the
 baby laugh [every day|each morning] with a new face, one like a <creature> and one like a
 <creature>. {^he} left the {toy} in its bed.|{^he} sang the baby a song about <creature+> and laid
 the {toy} in its arms.] "[You can have it|It is yours] until you are [six|five]," <Ns>. <learned>
 [love does not get smaller when you share it|there is room for one more in every family].
<open>
 // {F}, a <trait> {kind2}, had [very big ears|a funny walk|a loud laugh|crooked teeth|a patch on
 {his2} coat]. <day> the others <at@place> the {place} [laughed|pointed] at {F}, and {N} laughed,
 too. {F} [ran away|went home alone|hid <spot@place>]. <aside> [{N}'s laugh got stuck in {his}
 throat.|{N} stopped laughing.|Suddenly it was not funny any more.|{N} saw a tear on {F}'s face,
 and {his} ears got hot.|Only a <bird> made a sound then.]
 // [That night|At home], {N} could not [eat|sleep]. "I [laughed at|was mean to] {F}, and now I
 feel [bad|sick]," <Nsad>. "[And how does {F} feel|What can you do about it]?" <Ea>. {N} [thought
 about it|was quiet]. Then {he} [drew|made] a {art} with a {creature} on it and put {n} {treat+} in
 a [bag|box].
 // The next [day|morning], {he} [went|walked] to {F}'s [door|house]. <worry> "I am sorry. [It was
 wrong|I should not have laughed]. I brought you {n} {treat+}," <Ns>. {F} looked at the
 [{treat+}|{art}] for a long time. "It [hurt|made me cry]," <Fsad>. "But thank you for
 [coming|saying it]."
 // They ate the {treat+} together. When the others laughed again, {N} [stood|stepped] in front of
 {F}. "Stop it! {^F} is my friend," {he} said in a loud voice. And they stopped. <learned> [words
 can hurt, and words can heal|it takes courage to say sorry].
<open>
 // One {storm}, {N} [woke up|could not sleep]. There was {sound} [under|behind] the
 [bed|stairs|wall]. "[What is that|Who is there]?" <Na>. Nobody answered. [<worry>|] {^he} pulled
 the [blanket|sheet] over {his} head. [Maybe it was|It could be] a [monster|dragon|ghost] with {n}
 [teeth|eyes|legs]!
 // There it was again. {N} [took|picked up] {his} {color} [lamp|light] and [went|crept] to {his}
 {E}. "There is a [monster|ghost|dragon] in [my room|the house]," {he} whispered. "[Let us go and
 see|Then we will say hello]," <Es>. [Hand in hand|Together], they looked <indoors>. Nothing. They
 looked <indoors>. Nothing. Then they [opened|looked behind] the [old|little] [door|cupboard].
 // Two [bright|tiny] eyes looked back. It was a {visitor}! It had [a {keepsake} stuck on its
 foot|fallen in through the window|come in to get warm]. {N} [laughed|giggled]. "[You are a very
 small monster|So you are the monster]," <Ns>. They gave it a {petfood} and [let it sleep in a
 box|took it outside]. <learned> [things look bigger in the dark|most monsters are small when you
 turn on the light|it helps to go and look].
<open> <meetF>
 // <day> {N} and {F} were <at@place> the {place} with a {color} kite. <aside> The wind
 [pulled|tugged] hard, and the kite [flew|got stuck] high up in a {tree}. "[My kite|Oh no, our
 kite]!" <Nsad>.
 // They threw a [stick|ball|shoe] at it. [It|That] [missed|did not help], and the kite [was still
 there|did not move]. {F} [climbed|stood] on a [rock|box], but {he2} was too [short|small]. [They
 shook the {tree}, and only {n} leaves came down.|They asked a <bird>, but it just looked at
 them.|They called and called for help.]
 // "[If you stand on my back|If I lift you up], we are [tall enough|twice as tall]," <Fs>. {N}
 climbed up. They [wobbled|shook] like a [tower of blocks|tall cake]. {N} [stretched|reached] and
 reached, and got [hold of|] the string! [They fell down in a heap and laughed.|Down came the kite,
 and down came the two friends.] The kite had a [small hole|torn tail], but it [flew|could fly]
 again. <learned> [together you are taller|what one can not reach, two can]. [<home>|]
<open>
 // <day> {N} [found|saw] a {purse} <spot@place> <at@place> the {place}. [Inside|In it] were {n}
 [gold|silver] coins and a {color} {keepsake}. [Nobody was looking.|{N} looked around, but {he} was
 alone.|<aside>] "[I could buy a <toy>|With this I could buy a {toy} and {n} {treat+}]," {he}
 thought. [<worry>|]
 // But then {he} thought of the one who had lost it. [Maybe somebody was <sad> now.|Maybe somebody
 was looking for it right now.|How <sad> {he} would be without {his} {keepsake2}!] {N} [asked|went
 to] a <helper>, but [the {purse} belonged to somebody else|that was not the right one]. {^he}
 [asked|went to] three [more|other] people. At last {he} came to the {H}, who was
 [looking|crawling] [around|everywhere] <spot@place>. "[Did you lose something|Are you looking for
 this]?" <Na>.
 // "[My coins|My {purse}]! And the {keepsake} of my [dear|old] {kin}!" the {H} cried. {^he4}
 counted the coins. All {n} were there. "[You are an honest {noun}|Not everybody would bring it
 back]," <Hs>. {^he4} wanted to give {N} {k} {coin#k}, but {N} [shook {his} head|would not take
 {coinit#k}]. "[I am just glad you have it back|It was yours]," <Ns>. So the {H} gave {him} a
 {treat} [and a ride home|and a big smile] instead. <learned> [being honest feels better than being
 rich|you sleep well when you do what is right].
<open>
 // {N} had [an old|a plain] {keepsake}. <day> {he} met a {kind2} named {F}, who [said|told {him}],
 "I need a {keepsake}! I will give you my {color} {toy} for it." So they [traded|swapped].
 // [Then|Next], {N} met the {H}. The {H} [had a little {kin} at home who|knew a child who]
 [wanted|dreamed of] a {toy}. "[Give me the {toy}|I would like the {toy}], and you can have this
 {color} {dry}," <Hs>. So they [traded|swapped]. At the {place}, {N} [saw|found] an old [woman|man]
 who was [cold|shaking]. {N} gave away the {dry} and got [a basket of {n} {fruit+}|{n} {fruit+} for
 it].
 // [On the way home|A little later], {N} sat down <spot@place>. A hungry {creature} looked at
 {him}. {N} gave it {k} of the {fruit+}. Now {he} had {left} {fruit#left}. "[What did you get for
 your {keepsake}|Where is your {keepsake}]?" {his} {E} asked when {he} came home.
 // "I got a {toy}, then a {dry}, and then {n} {fruit+}. And now I have {left} {fruit#left}," <Nr>.
 {^his} {E} laughed. "[And how many friends|How many did you make happy]?" {he3} asked. {N}
 counted: {F}, the {H}, the one who was cold, and the {creature}. "[Four|Four new friends]!" <Nh>.
 <learned> [friends are the best trade of all|you can be rich in friends].
<open> <meetF>
 // It was {N}'s birthday, but [nobody|no one] said [anything|a word]. {^his} {E} [was busy|went
 out early]. {F} [ran off|said {he2} had no time]. "[They all forgot|Nobody remembers my
 birthday]," <Nsad>. [<sorrow>|]
 // {N} [walked|went] to the {place} alone. [<aside>|<^spot@place>, {he} found a {bug} and told it
 everything.] {^he} [sat|stayed] there for a long time. Then {F} came [running|running, out of
 breath|over the grass]. "[Come quick|You must come]! [Something happened at your house|Your {E}
 needs you|There is a <creature> in your kitchen|Your house is full of <bird+>|Somebody has eaten
 your <food>]!" <Fh>. {N} [ran|jumped up]. What could it be?
 // The house was [dark|quiet]. {N} opened the door. "Surprise!" [cried|shouted] [many|a
 dozen|twenty] [voices|friends]. [There were {color} balloons, a {flavor} cake with {n} candles,
 and a {color} box with a {toy} in it.|Under {color} flags stood a {flavor} cake with {n} candles,
 and beside it lay a {toy}.|{F} held a {flavor} cake with {n} candles, and {his} {E} had a {color}
 {toy} behind {his3} back.|They had <food>, a {flavor} cake with {n} candles, and a present: a
 {color} {toy}.] "[We had to keep it secret|We wanted to surprise you]," <Fs>. {N} [laughed and
 cried|was so <glad> that {he} cried]. "[I thought you forgot me|I was cross with all of you],"
 <Ns>. They [danced|played <game>] until [late|the candles were gone]. <learned> [you should not
 think badly of friends too soon|friends sometimes have good secrets].
<open>
 // [One [gray|dark|cloudy] {part},|One {weekday},|On {weekday},|One {season} {part},] it rained
 and rained. "[Put on your|Do not forget your] {color} {rain}," <Es>. "[No|I do not want to]! [It
 is ugly|I do not need it|I never get wet]," <Nr>. {^he} [ran|went] out without the {rain}.
 [<meetF>|]
 // At first it was fun. {N} [jumped|splashed] in {n} puddles and looked for [snails|frogs]. But
 soon {his} [socks|feet|ears] were [wet|cold], and {his} [teeth|knees] [shook|chattered]. {^he}
 [hid|stood] <spot@place>, but the rain [found|dripped on] {him} there, too. [A <helper> went by in
 a nice dry coat.|A {creature} looked at {him} from its dry hole.]
 // When {N} came home, {he} sneezed {k} {time#k}. {^his} {E} did not [shout|scold]. {^he3}
 [got|brought] a [dry|warm] towel, <food>, and [hot|warm] milk with honey. "[You were right|I
 should have listened]," <Ns>. "[You found out by yourself|Now you know why]," <Es>.
 // The next time it rained, {N} put on the {color} {rain} before anybody [asked|said a word].
 {^he} jumped in {n} puddles again, and {he} stayed [dry|warm]. <learned> [it is good to
 listen|those who love us often know why they ask].
<open>
 // <day> the {H}'s cart got stuck in the mud near the {place}. It was full of {fruit+}. The {H}
 pulled and pulled, but it [did not|would not] move. "[May I help|Can I help you]?" <Na>. "You are
 [rather|very|so] small," <Hs>. "But [yes, please|come and try]." They pulled together, but the
 cart [did not|would not] move.
 // Then {F} came [by|along], a {kind2} with strong [arms|legs]. Now [all three|the three of them]
 pulled, but the cart did not move. Then [{his} {E}|{his} {E}, who had heard the noise,] came, and
 all four pulled. The cart [creaked|groaned|shook], but it did not move. [{N} wiped {his}
 face.|<aside>]
 // At last came a tiny {bug} and sat [down|] on the [back|edge] of the cart. "[You can not
 help|You are too small]," <Fs>. "[Nobody is too small|Everybody can help]," <Ns>. "One, two,
 three!" They pulled, and the {bug} [pushed|pulled] as hard as it could. [Plop|Pop|Slurp]! The cart
 came out, and they all fell [over|in the mud].
 // [They were brown from head to toe and laughed.|Nobody was clean, and everybody laughed.] The
 {H} gave each of them a {fruit}, and the {bug} got a very small piece. <learned> [every little bit
 of help counts|nobody is too small to help]. [<home>|]
<open>
 // There was one thing {N} would not eat: {dish}. "[Try just one bite|Only one spoon]," <Es>.
 "[No|Never]! It looks like [mud|glue|old socks]," <Nr>, and {he} [closed {his} mouth|turned
 away|held {his} nose].
 // <day> {N} [was at|went to] {F}'s house. {F} was a <trait> {kind2}, and {his2} {kin} had cooked.
 On the table was [a big bowl of|] {dish}! [<worry>|] {N} did not want to be [rude|impolite]. {^he}
 took a [tiny|very small] bite. It was [warm|soft] and [sweet|salty]. [{^he} took another bite, and
 then {n} more.|{^he} took a bigger bite, and soon the plate was empty.|It tasted a little like
 <food>. {^he} ate more and more.|{^he} looked at the spoon and filled it again.|{^he} ate it all
 and asked for more.] "[It is good|I like it]!" <Nh>.
 // [That evening|At home], {N} [said|asked], "[Can we have|Could you make] {dish} tomorrow?"
 {^his} {E} [almost dropped a spoon|laughed out loud]. "[I thought it looks so bad|I thought you
 would never eat it|Did you not say no]?" <Ea>. "[It looks bad, but it tastes good|I never tried it
 before]," <Nr>. <learned> [you can not know before you try|trying something new can be a nice
 surprise].
<open>
 // To get to the {place}, one had to cross a [narrow|old|long] bridge. On it sat a
 [big|grumpy|wise old] [owl|goat|toad]. "[Nobody may cross|You can only pass] [without an answer|if
 you solve my riddle]," it said.
 // "<riddle>
 // [{N} bowed.|{N} smiled.|] The keeper of the bridge [stepped aside|laughed]. "[Very good|Clever
 {noun}]! [Nobody has found that in {n} years|Even the {H} did not know that]. [Where do you want
 to go|Why do you want to cross|What is it that you want over there]?" "[I want to go to|I am on my
 way to|To] the {place}, to [get|find|pick] [<flower>|<fruit+>|a <adj-thing> <keepsake>|<color>
 <flower>] for my {E}," <Nr>. "[Take this along|Here is something for {him3}|I have something for
 {him3}, too]." [And it gave {him} a {color} {keepsake}.|And it pulled out a {color} {keepsake}.|It
 held out a {color} {keepsake} with <color> dots.|It was a {color} {keepsake}, and it smelled of
 <smell>.]
 // [On the way back|In the evening], {N} [stopped|sat] on the bridge and told the keeper a riddle,
 too. [They laughed together|They talked] until the moon [came out|was high]. It [was not grumpy at
 all|had only been lonely]. <learned> [it pays to think before you speak|you can make friends with
 a good question].
<open>
 // <day> the wind took {N}'s {color} {hat} and blew it [away|over the {place}]. {N} ran after it,
 [over a fence|through the mud|past a <helper>] and [around|under] a <tree>. <aside> But the {hat}
 was gone. [<sorrow>|"That was my best {hat}," <Nsad>.]
 // [Day after day|For {n} days], {N} looked for it. {^he} looked <spot@place> and <spot@place>.
 [{^he} asked the <helper>|{F}, {his} friend, looked, too], but nobody had seen it. Then,
 <spot@place>, {he} saw something {color}. It was the {hat}! {N} [put out {his} hand|wanted to grab
 it], and stopped.
 // In the {hat} sat a [mother|little] <bird> on {n} [tiny|blue|white] eggs. {N} [pulled back {his}
 hand|took a step back]. "[Keep it|It is yours now]. You need it more than I do," {he} whispered.
 {^his} {E} [made|gave] {him} [a new|another] {hat}, a [warmer|bigger] one.
 // In {season}, there were {n} young birds <at@place> the {place}. [They flew around {N}'s
 head.|One of them sat on {N}'s hand.|They sang like small <instrument+>.|One was as <trait> as
 {N}.|{N} brought them pieces of <fruit>.] {N} [counted|knew] them all. <learned> [giving can make
 you happier than keeping|sometimes what you lose becomes a gift].
<open> <meetF>
 // {F} could [whistle|swim|tie {his2} shoes|jump rope|stand on {his2} head], but {N} could not.
 "[It is easy|Just do it like me]," <Fs>. {N} tried it {n} times. [It did not work.|It went wrong
 each time.] "[I am too silly|I will never be as good as you]," <Nsad>.
 // {F} thought. "[When I began, it took me|I needed] {ten} days," {he2} said. "[Nobody saw me
 fail|I practiced behind the barn]. [Let us|We can] do it every day <at@place> the {place}, just
 five minutes." So they met each {part}. <aside> On day {k}, it [almost|nearly] worked. [Once {N}
 wanted to stay home, but {F} came to get {him}.|It rained, but they met anyway.]
 // [And on the last day it worked!|Then, one {fair} {part}, it worked!|And on the very last day,
 while a <bird> watched, {N} did it!|At last {he} got it right!] "[I can do it|Look at that]!"
 <Nh>. {F} [cheered|clapped] louder than {N}. <hug> [A week later|Soon], a smaller {noun} came to
 {N} and asked, "Is it hard?" {N} smiled. "[It takes some days|Come, I will show you]," <Ns>.
 <learned> [practice makes hard things easy|a good teacher is a patient friend].
<open>
 // {N} [picked|gathered] {berry+} <at@place> the {place}. "[Take only what you need|Leave some for
 the <bird+>]," <Es>. But {N} wanted [more|all of them]. {^he} filled {his} {bag} to the top, and
 then {he} [filled|stuffed] {his} [pockets|hat], too. <aside>
 // On the way home, the {bag} was so heavy that {N} had to stop {n} times. [<worry>|] Then, rip!
 The bottom [broke|tore], and everything [rolled|fell] [into the river|down the hill|into the mud].
 [<sorrow>|{N} stood there with empty hands.]
 // A <bird> [came|flew] down and looked at {him}. "[I took yours, too, and now nobody has any|I am
 sorry, little bird]," <Nsad>. {^he} still had {k} {berry#k} in one [pocket|hand]. {^he} put
 {berryit#k} on a [stone|leaf] for the bird. [The next day|In the morning], there was a
 [small|full] branch [of <fruit+>|with fresh berries] [at|in front of] {his} door. <learned> [if
 you want everything, you may end with nothing|enough is better than too much].
"""
