//! Mail providers of the public, worldwide.

/// Mail domains that name no employer: free-mail, internet access and throw-away providers. Sorted, in lower case.
///
/// A domain that is missing makes its customers look like colleagues; one too many leaves a company's people each
/// alone. So it holds the well-known ones, and no company that gives its staff addresses under the same domain.
#[rustfmt::skip]
pub(super) const FREE_MAIL: &[&str] = &[
    "012.net.il", "10minutemail.com", "126.com", "139.com", "163.com", "188.com", "189.cn", "21cn.com", "263.net",
    "absamail.co.za", "abv.bg", "adam.com.au", "aim.com", "alice-dsl.net", "alice.de", "alice.it", "aliceadsl.fr",
    "aliyun.com", "ameritech.net", "aol.co.uk", "aol.com", "aol.de", "aol.es", "aol.fr", "aol.it", "aon.at",
    "apollo.lv", "arcor.de", "arnet.com.ar", "atlas.cz", "att.net", "au.com", "autograf.pl", "autorambler.ru",
    "azet.sk", "bahnhof.se", "bbox.fr", "belgacom.net", "bell.net", "bellsouth.net", "bezeqint.net", "biglobe.ne.jp",
    "bigmir.net", "bigpond.com", "bigpond.net.au", "bk.ru", "bluemail.ch", "bluewin.ch", "blueyonder.co.uk",
    "bol.com.br", "bredband.net", "broadpark.no", "brturbo.com.br", "bsnl.in", "btconnect.com", "btinternet.com",
    "btopenworld.com", "buziaczek.pl", "cableone.net", "caiway.nl", "casema.nl", "cegetel.net", "centrum.cz",
    "centrum.sk", "centurylink.net", "centurytel.net", "charter.net", "chello.at", "chello.nl", "citromail.hu",
    "ciudad.com.ar", "clear.net.nz", "clix.pt", "club-internet.fr", "cogeco.ca", "comcast.net", "comhem.se",
    "compuserve.com", "consultant.com", "cox.net", "ctemplar.com", "dataone.in", "daum.net", "dion.ne.jp", "dir.bg",
    "dispostable.com", "disroot.org", "docomo.ne.jp", "dodo.com.au", "dr.com", "dreamwiz.com", "drei.at", "duck.com",
    "earthlink.net", "eastlink.ca", "eim.ae", "eircom.net", "elisanet.fi", "email.com", "email.cz", "email.de",
    "email.it", "email.t-com.hr", "embarqmail.com", "emirates.net.ae", "empas.com", "engineer.com", "europe.com",
    "ewetel.net", "excite.co.jp", "excite.com", "ezweb.ne.jp", "fastmail.com", "fastmail.fm", "fastmail.net",
    "fastwebnet.it", "fibertel.com.ar", "forthnet.gr", "foxmail.com", "free.fr", "freemail.de", "freemail.hu",
    "freenet.de", "freeserve.co.uk", "frisurf.no", "frontier.com", "frontiernet.net", "fsnet.co.uk", "gazeta.pl",
    "getmail.no", "getnada.com", "globo.com", "globomail.com", "glocalnet.net", "gmail.com", "gmx.at", "gmx.ch",
    "gmx.co.uk", "gmx.com", "gmx.de", "gmx.es", "gmx.eu", "gmx.fr", "gmx.info", "gmx.net", "gmx.org", "gmx.us",
    "go2.pl", "goo.jp", "googlemail.com", "guerrillamail.com", "hanmail.net", "hanmir.com", "hetnet.nl", "hey.com",
    "hinet.net", "hispeed.ch", "hol.gr", "home.nl", "home.se", "hot.ee", "hotmail.be", "hotmail.ca", "hotmail.ch",
    "hotmail.cl", "hotmail.co.il", "hotmail.co.jp", "hotmail.co.kr", "hotmail.co.nz", "hotmail.co.th",
    "hotmail.co.uk", "hotmail.co.za", "hotmail.com", "hotmail.com.ar", "hotmail.com.au", "hotmail.com.br",
    "hotmail.com.mx", "hotmail.com.tr", "hotmail.cz", "hotmail.de", "hotmail.dk", "hotmail.es", "hotmail.fi",
    "hotmail.fr", "hotmail.gr", "hotmail.hu", "hotmail.in", "hotmail.it", "hotmail.nl", "hotmail.no", "hotmail.pt",
    "hotmail.se", "hotmail.sg", "hush.com", "hushmail.com", "i.softbank.jp", "i.ua", "iafrica.com", "icloud.com",
    "ig.com.br", "ihug.co.nz", "iinet.net.au", "in.com", "in.gr", "inbox.com", "inbox.lt", "inbox.lv", "inbox.ru",
    "indamail.hu", "indiatimes.com", "indigo.ie", "inet.hr", "infoseek.jp", "inode.at", "interia.eu", "interia.pl",
    "internet.ru", "internode.on.net", "inwind.it", "iol.ie", "iol.it", "iol.pt", "itelefonica.com.br", "jazztel.es",
    "jubii.dk", "juno.com", "kabelmail.de", "kabsi.at", "kakao.com", "keemail.me", "kolumbus.fi", "korea.com",
    "kpnmail.nl", "kpnplanet.nl", "lantic.net", "laposte.net", "lenta.ru", "libero.it", "lineone.net", "list.ru",
    "live.at", "live.be", "live.ca", "live.ch", "live.cl", "live.cn", "live.co.kr", "live.co.uk", "live.co.za",
    "live.com", "live.com.ar", "live.com.au", "live.com.mx", "live.com.my", "live.com.ph", "live.com.pt",
    "live.com.sg", "live.de", "live.dk", "live.fi", "live.fr", "live.hk", "live.ie", "live.in", "live.it", "live.jp",
    "live.nl", "live.no", "live.ru", "live.se", "love.com", "luukku.com", "lycos.co.kr", "lycos.co.uk", "lycos.com",
    "lyse.net", "mac.com", "magenta.de", "mail.bg", "mail.com", "mail.de", "mail.dk", "mail.ee", "mail.goo.ne.jp",
    "mail.ru", "mail.telepac.pt", "mail.ua", "mailbox.org", "maildrop.cc", "mailfence.com", "mailinator.com",
    "mailnesia.com", "maktoob.com", "me.com", "meta.ua", "mindspring.com", "movistar.es", "msn.com", "mweb.co.za",
    "mynet.com", "myrambler.ru", "myself.com", "myyahoo.com", "nate.com", "naver.com", "nb.sympatico.ca",
    "neostrada.pl", "net.hr", "netcabo.pt", "netscape.net", "netvigator.com", "netvision.net.il", "netzero.com",
    "netzero.net", "neuf.fr", "nifty.com", "noos.fr", "ntlworld.com", "numericable.fr", "o2.co.uk", "o2.pl",
    "o2mail.de", "o2online.de", "ocn.ne.jp", "ofir.dk", "oi.com.br", "one.lt", "onet.eu", "onet.pl", "online.de",
    "online.ee", "online.nl", "online.no", "ono.com", "op.pl", "optimum.net", "optonline.net", "optusnet.com.au",
    "orange.es", "orange.fr", "orange.net", "orcon.net.nz", "otenet.gr", "outlook.at", "outlook.be", "outlook.cl",
    "outlook.co.id", "outlook.co.il", "outlook.co.nz", "outlook.co.th", "outlook.com", "outlook.com.ar",
    "outlook.com.au", "outlook.com.br", "outlook.com.gr", "outlook.com.pe", "outlook.com.tr", "outlook.com.vn",
    "outlook.cz", "outlook.de", "outlook.dk", "outlook.es", "outlook.fr", "outlook.hu", "outlook.ie", "outlook.in",
    "outlook.it", "outlook.jp", "outlook.kr", "outlook.lv", "outlook.my", "outlook.ph", "outlook.pt", "outlook.sa",
    "outlook.sg", "outlook.sk", "ozemail.com.au", "pacbell.net", "pacific.net.sg", "pandora.be", "paradise.net.nz",
    "paran.com", "passport.com", "pchome.com.tw", "plala.or.jp", "planet.nl", "plus.com", "plusnet.com", "pm.me",
    "pobox.sk", "poczta.fm", "poczta.onet.pl", "pop.com.br", "post.com", "post.cz", "post.sk", "post.tele.dk",
    "poste.it", "posteo.de", "posteo.net", "posteo.org", "pp.inet.fi", "prodigy.net", "prodigy.net.mx", "proton.me",
    "protonmail.ch", "protonmail.com", "proximus.be", "q.com", "qq.com", "quicknet.nl", "r7.com", "rambler.ru",
    "rediff.com", "rediffmail.com", "riseup.net", "ro.ru", "roadrunner.com", "rocketmail.com", "rr.com",
    "runbox.com", "sancharnet.in", "sapo.pt", "sasktel.net", "saunalahti.fi", "sbcglobal.net", "scarlet.be",
    "seed.net.tw", "seznam.cz", "sfr.fr", "sharklasers.com", "shaw.ca", "sify.com", "sina.cn", "sina.com",
    "sina.com.cn", "singnet.com.sg", "siol.net", "skiff.com", "sky.com", "skynet.be", "slingshot.co.nz",
    "so-net.ne.jp", "softbank.ne.jp", "sohu.com", "solcon.nl", "speedy.com.ar", "spoko.pl", "spray.se",
    "starhub.net.sg", "startmail.com", "stofanet.dk", "suddenlink.net", "sunrise.ch", "suomi24.fi", "supanet.com",
    "supereva.it", "superig.com.br", "superonline.com", "swbell.net", "swissonline.ch", "sympatico.ca",
    "t-online.de", "t-online.hu", "talktalk.net", "tdcadsl.dk", "tele2.nl", "tele2.se", "telefonica.net",
    "telenet.be", "telepac.pt", "teletu.it", "telfort.nl", "telia.com", "telkomsa.net", "telus.net", "temp-mail.org",
    "terra.cl", "terra.com", "terra.com.br", "terra.com.mx", "terra.es", "tesco.net", "throwawaymail.com", "tim.it",
    "tin.it", "tiscali.ch", "tiscali.co.uk", "tiscali.cz", "tiscali.it", "tlen.pl", "tom.com", "tpg.com.au",
    "trashmail.com", "ttmail.com", "turk.net", "tut.by", "tuta.com", "tuta.io", "tutamail.com", "tutanota.com",
    "tutanota.de", "ukr.net", "unitybox.de", "uol.com.br", "uolsinectis.com.ar", "upcmail.hu", "upcmail.nl",
    "utanet.at", "verizon.net", "versanet.de", "versatel.nl", "videotron.ca", "vip.126.com", "vip.163.com",
    "vip.qq.com", "vip.sina.com", "vip.sohu.com", "vipmail.hu", "virgilio.it", "virgin.net", "virginmedia.com",
    "vodafone.co.nz", "vodafone.de", "vodafone.ie", "vodafone.it", "vodafone.ne.jp", "vodafonemail.de",
    "vodamail.co.za", "voila.fr", "volny.cz", "voo.be", "vp.pl", "vsnl.com", "vsnl.net", "walla.co.il", "walla.com",
    "wanadoo.co.uk", "wanadoo.es", "wanadoo.fr", "web.de", "webmail.co.za", "welho.com", "westnet.com.au",
    "windowslive.com", "windstream.net", "wo.cn", "wp.pl", "xs4all.nl", "xtra.co.nz", "ya.com", "ya.ru", "yahoo.at",
    "yahoo.be", "yahoo.ca", "yahoo.ch", "yahoo.cn", "yahoo.co.id", "yahoo.co.in", "yahoo.co.jp", "yahoo.co.kr",
    "yahoo.co.nz", "yahoo.co.th", "yahoo.co.uk", "yahoo.co.za", "yahoo.com", "yahoo.com.ar", "yahoo.com.au",
    "yahoo.com.br", "yahoo.com.cn", "yahoo.com.co", "yahoo.com.hk", "yahoo.com.mx", "yahoo.com.my", "yahoo.com.pe",
    "yahoo.com.ph", "yahoo.com.sg", "yahoo.com.tr", "yahoo.com.tw", "yahoo.com.ve", "yahoo.com.vn", "yahoo.cz",
    "yahoo.de", "yahoo.dk", "yahoo.es", "yahoo.fi", "yahoo.fr", "yahoo.gr", "yahoo.hu", "yahoo.ie", "yahoo.in",
    "yahoo.it", "yahoo.ne.jp", "yahoo.nl", "yahoo.no", "yahoo.pl", "yahoo.pt", "yahoo.ro", "yahoo.se", "yandex.by",
    "yandex.com", "yandex.kz", "yandex.ru", "yandex.ua", "yeah.net", "ymail.com", "ymail.ne.jp", "yopmail.com",
    "zahav.net.il", "zeelandnet.nl", "zen.co.uk", "ziggo.nl", "zipmail.com.br", "zoho.com", "zohomail.com",
    "zohomail.eu", "zohomail.in", "zonnet.nl", "zoznam.sk",
];

#[cfg(test)]
mod tests {
    use super::FREE_MAIL;

    #[test]
    fn providers_are_sorted_for_the_search() {
        assert!(FREE_MAIL.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(FREE_MAIL.iter().all(|domain| *domain == domain.to_lowercase() && domain.contains('.')));
    }
}
